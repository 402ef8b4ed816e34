"`python -m selective_unlearning`, and so `accelerate launch -m selective_unlearning`."
import sys

from selective_unlearning.job.command import main

if __name__ == "__main__": sys.exit(main())
