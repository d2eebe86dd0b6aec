"""The data of a method that is trained on none."""

import pytorch_lightning as pl


class NothingToTrain(pl.LightningDataModule):
    """Holds no data, for trackers that learn online alone; ``trainer.limit_train_batches`` is 0.

    Args:
        batch_size: What the training commands ask every datamodule for.
    """

    def __init__(self, batch_size: int = 1) -> None:
        super().__init__()
        self.batch_size = batch_size
