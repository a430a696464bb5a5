"""What runs in the workers: a judge, and a zygote that forks one process for each program. Standard library only.

Workers import this folder as a package of its own (``inside``): they are bare interpreters, and the rest of the
project is not for the eyes of programs.
"""
