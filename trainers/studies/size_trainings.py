"""The trainings of the study of sizes, which go on where they were stopped."""

import contextlib
import fcntl
import os

import keras

import l0keras
from trainers.run import metrics
from trainers.run.workdir import replacing
from trainers.studies import largest_norm


class Trainings:
    """The trainings of one network with one seed, each of which is kept.

    Args:
        network: a `sizes.Network`.
        seed: an integer.
        data: a `Data` of the input pipeline.
    """

    def __init__(self, network, seed, data):
        self._network = network
        self._seed = seed
        self._data = data
        self._steps = data.steps_per_epoch(network.batch_size)

    def kept(self, path, make):
        """A model that was saved, or is made and saved.

        Args:
            path: its file.
            make: a function of the path without an ending, where it keeps the
                state of a training.
        """
        state = os.path.splitext(path)[0]
        with _alone(f"{state}.lock"):
            if not os.path.exists(path):
                model = make(state)
                with replacing(path) as draft:
                    model.save(draft)
            if os.path.exists(_checkpoint(state)):
                os.remove(_checkpoint(state))
        return keras.models.load_model(path, compile=False)

    def dense(self, name):
        """The network, trained for `dense_epochs`."""
        network = self._network

        def make(state):
            model = network.make(self._data, self._seed)
            return self._fit(model, network.dense_epochs, state)

        dense = self.kept(f"{name}-dense.keras", make)
        # As it is to be trained from now on.
        self._compile(dense, network.optimizer())
        return dense

    def compress(self, dense, target, state):
        keras.utils.set_random_seed(self._seed)
        result = l0keras.compress(
            dense,
            self._batches(self._network.epochs),
            target=target,
            epochs=self._network.epochs,
            steps_per_epoch=self._steps,
            # What it measures is not used.
            validation_data=self._few(),
            validation_freq=self._network.epochs,
            seed=self._seed,
            backup_dir=state,
            verbose=0,
        )
        return result.model

    def norm(self, dense, target, state):
        keras.utils.set_random_seed(self._seed)
        small = largest_norm.cut(dense, target)
        batches = self._data.train_batches(
            self._network.batch_size, self._seed, 1
        )
        l0keras.callbacks.refresh_batch_norm(small, batches)
        return self._fit(small, self._network.epochs, state)

    def scratch(self, small, state):
        keras.utils.set_random_seed(self._seed)
        fresh = keras.models.clone_model(small)
        for new, old in zip(fresh.layers, small.layers, strict=True):
            if isinstance(old, keras.layers.Normalization):
                new.set_weights(old.get_weights())
        epochs = self._network.dense_epochs + self._network.epochs
        return self._fit(fresh, epochs, state)

    def error(self, model):
        """The share of wrong labels of the test set, in percent."""
        return metrics.error_percent(
            metrics.predict(model, self._data), self._data
        )

    def _batches(self, epochs, first=0):
        return self._data.train_batches(
            self._network.batch_size, self._seed, epochs, first
        )

    def _few(self):
        images = self._data.scale(self._data.train_images[:1000])
        return images.numpy(), self._data.train_labels[:1000]

    def _compile(self, model, optimizer):
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=self._network.from_logits
            ),
            metrics=["accuracy"],
        )

    def _fit(self, model, epochs, state):
        optimizer = self._network.optimizer()
        config = optimizer.get_config()
        config["learning_rate"] = keras.optimizers.schedules.CosineDecay(
            config["learning_rate"], epochs * self._steps
        )
        self._compile(model, type(optimizer).from_config(config))
        checkpoint = l0keras.callbacks.Checkpoint(_checkpoint(state))
        done = checkpoint.restore(model)
        if done < epochs:
            model.fit(
                self._batches(epochs, done),
                initial_epoch=done,
                epochs=epochs,
                steps_per_epoch=self._steps,
                callbacks=[checkpoint],
                shuffle=False,
                verbose=0,
            )
        return model


def _checkpoint(state):
    return f"{state}.npz"


@contextlib.contextmanager
def _alone(path):
    """Lets one process at a time into a `with` block."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
