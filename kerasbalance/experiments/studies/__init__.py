"""The comparison of trainings with and without mining, at equal cost, over seeds."""
