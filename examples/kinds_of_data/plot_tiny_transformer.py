"""
=====================================================
A tiny transformer: sequences of tokens, with padding
=====================================================

A transformer reads the log of a session, one token for each event, and names the kind
of user: the four kinds have the same events, each in an order of its own. A session in
an order that nobody has is given one of the four names, too. Which sessions should the
transformer not be trusted on?

Sequences differ in length, and are padded in a batch. The monitor takes the mean over
the tokens of a layer, and has to know which of them are padding: it reads the mask that
the network gets. The first figure shows what happens otherwise: the same sessions,
padded more, are flagged more and more. The second shows which unusual sessions the
monitor flags.
"""

# %%
# Sessions
# --------
#
# Each kind of user has a habit: after each event mostly comes a certain other one, all
# in a cycle. A session has 8 to 24 events. Tokens are 1 to 8, and 9 is an event that
# does not occur; 0 is padding.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from skood import ActivationExtractor, Monitor, PoolingReducer, make_monitor
from skood.calibration import UncalibratedWarning
from skood.detectors import MaxSoftmaxDetector

# ``fit`` says that a threshold from training rows is an estimate: calibration follows.
warnings.simplefilter("ignore", UncalibratedWarning)
torch.set_num_threads(1)
rng = np.random.default_rng(0)
events = np.arange(1, 9)
n_kinds = 4


def habit():
    """The event that mostly follows each event, in a random cycle."""
    cycle = rng.permutation(events)
    return dict(zip(cycle.tolist(), np.roll(cycle, -1).tolist(), strict=True))


def session(follows, loyalty=0.85):
    """Events of a user who keeps to the habit with a probability of ``loyalty``."""
    log = [int(rng.choice(events))]
    length = rng.integers(8, 25)
    while len(log) < length:
        other = int(rng.choice(events))
        log.append(follows[log[-1]] if rng.random() < loyalty else other)
    return log


def batch(sessions, length=24):
    """Padded tokens and their mask, by the names of the network's arguments."""
    tokens = torch.zeros(len(sessions), length, dtype=torch.long)
    for row, log in zip(tokens, sessions, strict=True):
        row[: len(log)] = torch.tensor(log)
    return {"input_ids": tokens, "attention_mask": (tokens > 0).long()}


habits = [habit() for _ in range(n_kinds)]
y = rng.integers(n_kinds, size=2400)
sessions = [session(habits[kind]) for kind in y]
train, held_out, test = np.split(np.arange(len(y)), [1400, 1900])
for kind in range(n_kinds):
    print(f"a user of kind {kind}:", *sessions[np.flatnonzero(y == kind)[0]])

# %%
# The transformer
# ---------------
#
# Words and places are embedded, one block of attention follows, and the head reads the
# mean over all tokens that are not padding.


class Transformer(nn.Module):
    def __init__(self, n_units=32):
        super().__init__()
        self.embedding = nn.Embedding(10, n_units, padding_idx=0)
        waves = torch.arange(64)[:, None] / 100 ** torch.linspace(0, 1, n_units // 2)
        self.register_buffer("places", torch.cat([waves.sin(), waves.cos()], dim=1))
        self.block = nn.TransformerEncoderLayer(
            n_units, nhead=4, dim_feedforward=64, dropout=0, batch_first=True
        )
        self.head = nn.Linear(n_units, n_kinds)

    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids) + self.places[: input_ids.shape[1]]
        x = self.block(x, src_key_padding_mask=attention_mask == 0)
        weights = attention_mask[..., None].float()
        return self.head((x * weights).sum(dim=1) / weights.sum(dim=1))


def rows(inputs, chosen):
    return {name: values[chosen] for name, values in inputs.items()}


torch.manual_seed(0)
net = Transformer()
X, labels = batch(sessions), torch.from_numpy(y)
optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
for _ in range(12):
    for chosen in torch.from_numpy(rng.permutation(train)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(**rows(X, chosen)), labels[chosen]).backward()
        optimizer.step()
net.eval()
with torch.no_grad():
    right = net(**rows(X, test)).argmax(dim=1) == labels[test]
print(f"new sessions, right: {right.float().mean():.0%}")

# %%
# A monitor that leaves out padding
# ---------------------------------
#
# Inputs are a mapping of the arguments of the network. ``attention_mask`` is among
# them, and read as the mask: nothing has to be said. Of a mask of another name,
# ``mask=`` of the extractor tells. To see what the mask is good for, a second monitor
# is told that there is none. Both are calibrated on sessions padded to 24 tokens.

monitor = make_monitor(net).fit(rows(X, train), y[train])
monitor.calibrate(rows(X, held_out))
careless = make_monitor(net).set_params(extract__mask=None)
careless.fit(rows(X, train), y[train]).calibrate(rows(X, held_out))

lengths = [24, 28, 32, 40, 48, 64]
new = [sessions[row] for row in test]
fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
for one, color, name in (
    (monitor, "#0072b2", "padding left out, by the mask"),
    (careless, "#d55e00", "padding counted, mask=None"),
):
    alarms = [np.mean(one.predict(batch(new, length)) == -1) for length in lengths]
    ax.plot(lengths, 100 * np.array(alarms), "o-", color=color, label=name)
ax.set(
    title="false alarms by the length of the padding",
    xlabel="tokens that the same sessions are padded to",
    ylabel="sessions flagged (%)",
    xticks=lengths,
    ylim=(0, 100),
)
ax.legend()

# %%
# The network itself honours its mask, and answers the same at all lengths.

with torch.no_grad():
    difference = (net(**batch(new, 64)) - net(**batch(new, 24))).abs().max()
print(f"largest difference of a logit: {difference:.0e}")

# %%
# Unusual sessions
# ----------------
#
# All but one of these kinds consist of known events. The monitor has the advantage
# where a session is unlike all others and the network is sure all the same. Of what is
# unusual in one place only, a single unknown event, or a change of users, little is
# left in the mean over all tokens: most of these sessions pass.

stranger = habit()
unusual = {
    "known habits": new,
    "a new habit": [session(stranger) for _ in new],
    "no habit": [session(stranger, loyalty=0) for _ in new],
    "events shuffled": [rng.permutation(log).tolist() for log in new],
    "two users in one": [
        one[: len(one) // 2] + other[len(other) // 2 :]
        for one, other in zip(new, new[1:] + new[:1], strict=True)
    ],
    "one event repeated": [log[:1] * len(log) for log in new],
    "an unknown event": [[*log[:4], 9, *log[5:]] for log in new],
    "twice as long": [log + log for log in new],
    "four events": [log[:4] for log in new],
}
pooled = ActivationExtractor(net, reducer=PoolingReducer(pooling="avg"))
softmax = Monitor([("extract", pooled), ("detect", MaxSoftmaxDetector())])
softmax.fit(rows(X, train)).calibrate(rows(X, held_out))

fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
places = np.arange(len(unusual))
for one, shift, color, name in (
    (monitor, -0.2, "#0072b2", "monitor"),
    (softmax, 0.2, "#999999", "confidence of the network"),
):
    shares = [np.mean(one.predict(batch(logs, 48)) == -1) for logs in unusual.values()]
    ax.barh(places + shift, 100 * np.array(shares), 0.38, color=color, label=name)
ax.set(xlabel="sessions flagged (%)", yticks=places, yticklabels=unusual)
ax.set_title("unusual sessions that are flagged")
ax.invert_yaxis()
fig.legend(loc="outside upper center", ncols=2)
plt.show()
