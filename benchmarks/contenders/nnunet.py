"""nnU-Net's 2D trainer with its own plan, driven in this process for so many CPU seconds.

Its plan, network, augmentation, loss, optimiser and mirrored prediction are used as they are; only the batch is that of
the others, and its learning rate decays with the CPU seconds spent instead of with epochs.

python nnunet.py DATASET CPU_SECONDS SEED OUT      # writes OUT/case_NNN.nii.gz and prints iterations and CPU seconds
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

BATCH = 16
DATASET_ID = 900


def main(dataset: Path, budget: float, seed: int, out: Path) -> None:
    work = dataset.parent
    os.environ |= {"nnUNet_raw": str(work), "nnUNet_preprocessed": str(work / "preprocessed"),
                   "nnUNet_results": str(out / "results"), "nnUNet_n_proc_DA": "1"}  # fmt: skip
    import numpy as np
    import torch

    torch.set_num_threads(1)
    plans = _plans(dataset, work / "preprocessed" / dataset.name)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # its augmentation draws from these
    torch.manual_seed(seed)
    trainer = _trainer(plans, json.loads((dataset / "dataset.json").read_text()))
    iterations, spent = _train(trainer, budget)
    _predict(trainer, work / "unseen-images", out)
    print(json.dumps({"iterations": iterations, "cpu_s": spent}))


def _plans(dataset: Path, preprocessed: Path) -> dict[str, Any]:
    """Let nnU-Net plan and preprocess, unless it has; return its plan with the batch of the others."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    plan = preprocessed / "nnUNetPlans.json"
    if not (preprocessed / "gt_segmentations").exists():
        api.extract_fingerprints([DATASET_ID], num_processes=1, verbose=False, show_progress_bar=False)
        api.plan_experiments([DATASET_ID])
        api.preprocess([DATASET_ID], configurations=("2d",), num_processes=(1,), show_progress_bar=False)
    plans: dict[str, Any] = json.loads(plan.read_text())
    plans["configurations"]["2d"]["batch_size"] = BATCH
    plans["continue_training"] = False
    return plans


def _trainer(plans: dict[str, Any], facts: dict[str, Any]) -> Any:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112  # batches are made here, so that they count
    trainer = nnUNetTrainer(plans, "2d", "all", facts, torch.device("cpu"))
    trainer.disable_checkpointing = True
    trainer.plot_network_architecture = lambda: None
    trainer.on_train_start()
    trainer.network.train()
    return trainer


def _train(trainer: Any, budget: float) -> tuple[int, float]:
    """Train until the CPU seconds are spent; the batches are drawn and augmented within them."""
    begin, spent, done = time.process_time(), 0.0, 0
    while spent < budget:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - spent / budget) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        done, spent = done + 1, time.process_time() - begin
    return done, spent


def _predict(trainer: Any, images: Path, out: Path) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
        trainer.dataset_json, "nnUNetTrainer", trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    cases = sorted(images.glob("*.nii.gz"))
    targets = [str(out / path.name.replace("_0000.nii.gz", "")) for path in cases]
    predictor.predict_from_files_sequential([[str(path)] for path in cases], targets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
