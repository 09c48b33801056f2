"""Networks in the wrappers of other libraries, and inputs of kinds that other libraries have."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .specimen import N_CLASSES, N_OTHERS, N_SAMPLES, Case, Specimen
from .transformers_nets import TEXT, TEXTS, build, make_text_case, make_texts

BERT = ("bert.encoder.layer.0.output", "bert.encoder.layer.2.output")


def list_specimens() -> list[Specimen]:
    wrapped = tuple(f"base_model.model.{layer}" for layer in BERT)
    return [
        Specimen("lightning/trained_classifier", _make_lightning, ("network.1", "network.3")),
        Specimen("peft/lora_bert", _make_lora_bert, wrapped),
        Specimen("peft/lora_on_all_linear_layers", _make_lora_everywhere, wrapped),
        Specimen("datasets/bert_on_a_dataset", partial(_make_dataset, "torch"), BERT),
        Specimen("datasets/bert_on_a_dataset_of_lists", partial(_make_dataset, None), BERT),
        Specimen("torch_geometric/dense_graph_classifier", _make_dense_graphs),
        Specimen("torch_geometric/graph_classifier", _make_graphs, refusal="pass dense ones"),
    ]


def _make_lightning() -> Case:
    """A module that its trainer has trained for one epoch."""
    import pytorch_lightning
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    images, labels = torch.randn(N_SAMPLES + N_OTHERS, 1, 8, 8), torch.arange(24) % N_CLASSES

    class Classifier(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.network = nn.Sequential(
                nn.Conv2d(1, 8, 3),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(16, N_CLASSES),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

        def training_step(self, batch: Any, batch_index: int) -> Tensor:
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    network = Classifier()
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, DataLoader(TensorDataset(images, labels), batch_size=8))
    return Case(network, images[:N_SAMPLES], images[N_SAMPLES:])


def _make_lora_bert() -> Case:
    return _with_lora({"target_modules": ["query", "value"], "modules_to_save": ["classifier"]})


def _make_lora_everywhere() -> Case:
    return _with_lora({"target_modules": "all-linear"})


def _with_lora(options: dict[str, Any]) -> Case:
    import peft

    model, config, settings, _ = TEXTS["bert"]
    case = make_text_case(model, config, settings)
    lora = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, **options)
    return Case(
        peft.get_peft_model(case.network, lora), case.inputs, case.others, padded=case.padded
    )


def _make_dataset(form: str | None) -> Case:
    """Texts as rows of a data set, whose values are tensors ("torch") or lists."""
    import datasets

    def make(texts: dict[str, Tensor]) -> Any:
        columns = {name: values.tolist() for name, values in texts.items()}
        dataset = datasets.Dataset.from_dict(columns)
        return dataset.with_format(form)

    inputs = make_texts(N_SAMPLES, 12)
    network = build("BertForSequenceClassification", "BertConfig", TEXT)
    return Case(network, make(inputs), make(make_texts(N_OTHERS, 9)), prepared=inputs)


def _make_graphs() -> Case:
    """Graphs of several sizes, batch by batch as the library's loader yields them."""
    from torch_geometric.data import Batch, Data
    from torch_geometric.loader import DataLoader
    from torch_geometric.nn import GCNConv, global_mean_pool

    class GraphClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = GCNConv(5, 16), GCNConv(16, 16)
            self.head = nn.Linear(16, N_CLASSES)

        def forward(self, data: Any) -> Tensor:
            x = self.first(data.x, data.edge_index).relu()
            x = self.second(x, data.edge_index).relu()
            return self.head(global_mean_pool(x, data.batch))

    graphs = [Data(x=x, edge_index=edges) for x, edges in _draw_graphs()]
    return Case(
        GraphClassifier(),
        DataLoader(graphs[:N_SAMPLES], batch_size=N_SAMPLES),
        DataLoader(graphs[N_SAMPLES:], batch_size=N_OTHERS),
        prepared=Batch.from_data_list(graphs[:N_SAMPLES]),
    )


def _make_dense_graphs() -> Case:
    """The same graphs as matrices, with a mask of the nodes that there are."""
    from torch_geometric.nn import DenseGCNConv
    from torch_geometric.utils import to_dense_adj

    class DenseGraphClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = DenseGCNConv(5, 16), DenseGCNConv(16, 16)
            self.head = nn.Linear(16, N_CLASSES)

        def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> Tensor:
            x = self.first(x, adj, mask).relu()
            x = self.second(x, adj, mask).relu()
            return self.head(x.sum(1) / mask.sum(1, keepdim=True))

    graphs = _draw_graphs()
    inputs = {
        "x": torch.stack([F.pad(x, (0, 0, 0, 8 - len(x))) for x, _ in graphs]),
        "adj": torch.cat([to_dense_adj(edges, max_num_nodes=8) for _, edges in graphs]),
        "mask": torch.stack([torch.arange(8) < len(x) for x, _ in graphs]),
    }
    return Case(
        DenseGraphClassifier(),
        {name: values[:N_SAMPLES] for name, values in inputs.items()},
        {name: values[N_SAMPLES:] for name, values in inputs.items()},
    )


def _draw_graphs() -> list[tuple[Tensor, Tensor]]:
    """Nodes and edges of graphs of four to eight nodes."""
    n_nodes = [4 + number % 5 for number in range(N_SAMPLES + N_OTHERS)]
    return [(torch.randn(n, 5), torch.randint(n, (2, 3 * n))) for n in n_nodes]
