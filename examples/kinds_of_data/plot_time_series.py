"""
==============================================
Time series: windows in which something is odd
==============================================

A sensor on a machine is read without end. A one-dimensional convolutional network looks
at the last 64 values and names the gear that the machine runs in. Sensors stick, drift
and fail, and bearings wear. In which windows should the network not be trusted on?

The first figure shows a series in which a drift, a stuck sensor and a gear that the
network has not learnt come one after the other, the network's answers, and the score
of a monitor. The second counts the windows flagged for each fault. The confidence of
the network finds fewer of them, and none where the signal is too loud: that makes it
surer. What neither finds is a window that runs backwards.
"""

# %%
# Windows of a series
# -------------------
#
# The series is generated: in each of four gears, a tone and an overtone, with noise. A
# window takes 64 values, and starts anywhere.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from skood import ActivationExtractor, Monitor, PoolingReducer, make_monitor
from skood.calibration import UncalibratedWarning
from skood.detectors import MaxSoftmaxDetector

# ``fit`` says that a threshold from training rows is an estimate: calibration follows.
warnings.simplefilter("ignore", UncalibratedWarning)

torch.set_num_threads(1)
rng = np.random.default_rng(0)
width = 64
tones = [(0.05, 2, 0.5), (0.08, 3, 0.8), (0.12, 2, 0.3), (0.17, 3, 0.6)]
unknown_tone = (0.1, 5, 0.7)


def signal(tone, n_values):
    """A stretch of the series: the frequency, the overtone, and how loud that is."""
    frequency, overtone, loudness = tone
    angle = 2 * np.pi * (frequency * np.arange(n_values) + rng.random())
    shift = 2 * np.pi * rng.random()
    sound = np.sin(angle) + loudness * np.sin(overtone * angle + shift)
    return sound + rng.normal(0, 0.3, n_values)


def as_inputs(windows):
    """Windows as the network takes them, of shape (n_windows, 1, width)."""
    return np.asarray(windows, dtype=np.float32)[:, np.newaxis]


gears = rng.integers(len(tones), size=1500)
X = as_inputs([signal(tones[gear], width) for gear in gears])
train, held_out, test = np.split(np.arange(len(X)), [700, 1100])

# %%
# Network and monitor
# -------------------
#
# Layers of the network are maps of channels and times. The monitor takes the mean over
# time of each channel, as it takes the mean of a channel's map for images.

torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv1d(1, 16, 7, padding=3),
    nn.ReLU(),
    nn.MaxPool1d(2),
    nn.Conv1d(16, 32, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool1d(2),
    nn.Conv1d(32, 32, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool1d(1),
    nn.Flatten(),
    nn.Linear(32, len(tones)),
)
optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
inputs, labels = torch.from_numpy(X), torch.from_numpy(gears)
for _ in range(8):
    for batch in torch.from_numpy(rng.permutation(train)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
        optimizer.step()
net.eval()
with torch.no_grad():
    right = net(inputs[test]).argmax(dim=1) == labels[test]
print(f"gears of new windows, right: {right.float().mean():.0%}")

monitor = make_monitor(net).fit(X[train], gears[train]).calibrate(X[held_out])
pooled = ActivationExtractor(net, reducer=PoolingReducer(pooling="avg"))
softmax = Monitor([("extract", pooled), ("detect", MaxSoftmaxDetector())])
softmax.fit(X[train]).calibrate(X[held_out])

# %%
# A series with faults
# --------------------
#
# The machine changes gears. Then the sensor drifts off, is repaired, sticks for a time,
# and at last there is a gear that nobody has told the network of. A window is looked at
# every four values; it is drawn at its last value. Windows that hold a change of gears
# are flagged, too: half a window of each is nothing that the network has learnt.

order = [0, 2, 1, 3, 0, 2]
series = np.concatenate([signal(tones[gear], 300) for gear in order])
series = np.r_[series, signal(unknown_tone, 300)]
drift, stuck, unknown = (650, 850), (1350, 1450), (1800, 2100)
series[slice(*drift)] += np.linspace(0, 2.5, 200)
series[slice(*stuck)] = series[stuck[0]]

ends = np.arange(width, len(series) + 1, 4)
windows = as_inputs(sliding_window_view(series, width)[ends - width])
scores = monitor.decision_function(windows)
with torch.no_grad():
    named = net(torch.from_numpy(windows)).argmax(dim=1).numpy()

fig, (ax, middle, below) = plt.subplots(
    3, sharex=True, figsize=(8, 5.5), height_ratios=[2, 1, 2], layout="constrained"
)
fig.suptitle("a sensor, what the network says, and the score of the monitor")
ax.plot(series, color="0.4", linewidth=0.7)
ax.set(ylabel="sensor", xlim=(0, len(series)))
middle.plot(ends, named + 1, ".", color="#0072b2", markersize=4)
middle.set(ylabel="gear named", yticks=[1, 2, 3, 4], ylim=(0.5, 4.5))
flagged = scores < 0
below.plot(ends[~flagged], scores[~flagged], ".", color="#0072b2", label="accepted")
below.plot(ends[flagged], scores[flagged], ".", color="#d55e00", label="flagged")
below.axhline(0, color="black", linestyle="--", label="threshold")
below.set(xlabel="time", ylabel="score, less threshold")
below.set_ylim(-115, 15)
below.legend(loc="lower left", ncols=3)
for (start, end), name in (
    (drift, "drift"),
    (stuck, "stuck"),
    (unknown, "unknown\ngear"),
):
    for axes in (ax, middle, below):
        axes.axvspan(start, end, color="#d55e00", alpha=0.15, linewidth=0)
    ax.text(
        (start + end) / 2,
        1.02,
        name,
        ha="center",
        va="bottom",
        transform=ax.get_xaxis_transform(),
    )

# %%
# Which faults are found
# ----------------------
#
# A tone is a tone in either direction: of windows that run backwards, no more are
# flagged than of others, and the network gets their gear right.


def spoilt(function):
    return as_inputs([function(window.copy()) for window in X[test, 0]])


def spike(window):
    window[30] += 5
    return window


def stick(window):
    window[24:40] = window[24]
    return window


faults = {
    "none: new windows": X[test],
    "one value too high": spoilt(spike),
    "stuck for 16 values": spoilt(stick),
    "drifts by 1": spoilt(lambda window: window + np.linspace(0, 1, width)),
    "twice as loud": spoilt(lambda window: 2 * window),
    "twice the noise": spoilt(lambda w: w + rng.normal(0, 0.3 * 3**0.5, width)),
    "backwards": spoilt(lambda window: window[::-1]),
    "unknown gear": as_inputs([signal(unknown_tone, width) for _ in test]),
}
fig, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
places = np.arange(len(faults))
for detector, shift, color, name in (
    (monitor, -0.2, "#0072b2", "monitor"),
    (softmax, 0.2, "#999999", "confidence of the network"),
):
    shares = [100 * np.mean(detector.predict(rows) == -1) for rows in faults.values()]
    ax.barh(places + shift, shares, 0.38, color=color, label=name)
ax.set(xlabel="windows flagged (%)", yticks=places, yticklabels=faults)
ax.set_title("odd windows that are flagged")
ax.invert_yaxis()
fig.legend(loc="outside upper center", ncols=2)
with torch.no_grad():
    backwards = net(torch.from_numpy(faults["backwards"])).argmax(dim=1)
print(f"backwards, right: {(backwards == labels[test]).float().mean():.0%}")
plt.show()
