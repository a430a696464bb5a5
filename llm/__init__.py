"""RA3 on a language model: programs, thoughts before their lines, E- and M-steps, mid-training and its evaluation."""
