"""Learning-rate schedules over torch.optim.lr_scheduler."""
