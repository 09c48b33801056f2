"""The recipe of the guide for Spark, where pyspark and Java are installed."""

import os
import pickle
import sys

import numpy as np
import pytest

from skood import ActivationExtractor, Monitor
from skood.detectors import KNNDetector

pytest.importorskip("pyspark")


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.filterwarnings("ignore")
def test_rows_of_a_data_frame_are_scored_as_in_one_process(spark):
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import DoubleType, LongType, StructType
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4, 5)).astype(np.float32)
    flat = X.reshape(300, 20)
    net = MLPClassifier((8,), max_iter=5, random_state=0).fit(flat, np.arange(300) % 3)
    detect = KNNDetector(n_neighbors=5)
    monitor = Monitor([("extract", ActivationExtractor(net)), ("detect", detect)]).fit(flat)
    sent = spark.sparkContext.broadcast(pickle.dumps(monitor))

    def make_predict():
        monitor = pickle.loads(sent.value)

        def predict(inputs):
            A = monitor[:-1].transform(inputs.reshape(len(inputs), -1))
            return {"score": monitor.score_samples(A), "prediction": monitor.predict(A)}

        return predict

    score = predict_batch_udf(
        make_predict,
        return_type=StructType().add("score", DoubleType()).add("prediction", LongType()),
        batch_size=32,
        input_tensor_shapes=[[4, 5]],
    )
    rows = [(number, x.ravel().tolist()) for number, x in enumerate(X)]
    frame = spark.createDataFrame(rows, "id long, image array<float>").repartition(2)
    scored = frame.withColumn("monitor", score("image")).select("id", "monitor.*")
    found = sorted(scored.collect())
    assert [row.id for row in found] == list(range(300))
    np.testing.assert_allclose([row.score for row in found], monitor.score_samples(flat), rtol=1e-5)
    np.testing.assert_array_equal([row.prediction for row in found], monitor.predict(flat))
