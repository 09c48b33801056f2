"""The links [docs] of pages with code lead to where the objects of a file are documented.

Sphinx notes for each file the package under whose name the first object in it was met. A method
that a class of another package inherits may be that, and the links of the whole file are then
broken.
"""


def correct_packages(app):
    documented = app.env.domains["py"].objects
    modules = getattr(app.env, "_viewcode_modules", {})
    for module, entry in modules.items():
        if not entry:
            continue
        code, tags, used, package = entry
        if not all(f"{package}.{name}" in documented for name in used):
            modules[module] = (code, tags, used, _package_of(module, used, documented) or package)
    return []


def _package_of(module, used, documented):
    """The package under which all of a file is documented, the outermost first."""
    parts = module.split(".")
    packages = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return next((p for p in packages if all(f"{p}.{n}" in documented for n in used)), None)


def setup(app):
    app.connect("html-collect-pages", correct_packages, priority=400)  # before viewcode's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
