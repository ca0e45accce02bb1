from huggingface_hub import HfApi

print("answer:", HfApi().whoami()["name"])
