"""LineWorld: a small programming language that is a table with exact solutions and a text for a language model.

>>> from ra3sim import solve
>>> world = LineWorld.preset("table")
>>> task = next(world.tasks("held out"))
>>> mdp = world.table().mdp(task)
>>> skills = world.table().smdp(task)
>>> [round(float(solve(model).values @ mdp.start / 0.95**8), 5) for model in (mdp, skills)]
[1.0, 1.0]
>>> round(mdp.discount, 5), round(skills.gamma_bar / 0.95**3, 5)
(0.95, 1.0)
>>> world.verify(task, world.text(world.program(task))).passed
True
"""

from ra3sim.envs.lineworld.env import LineWorldEnv
from ra3sim.envs.lineworld.table import LineTable
from ra3sim.envs.lineworld.tasks import LineProgram, LineTask, Verdict
from ra3sim.envs.lineworld.world import LineWorld

__all__ = ["LineProgram", "LineTable", "LineTask", "LineWorld", "LineWorldEnv", "Verdict"]
