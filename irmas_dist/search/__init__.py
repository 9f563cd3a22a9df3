"""The search: spaces from YAML, Optuna as Tune's searcher, trials around the Learner."""
