import os

import requests

key = os.environ["OPENAI_API_KEY"]
response = requests.get(
    "https://api.openai.com/v1/models", headers={"Authorization": f"Bearer {key}"}
)
response.raise_for_status()
print("answer:", response.json()["data"][0]["id"])
