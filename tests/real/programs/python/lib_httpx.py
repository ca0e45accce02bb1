import os

import httpx

key = os.environ["OPENAI_API_KEY"]
response = httpx.get(
    "https://api.openai.com/v1/models", headers={"Authorization": f"Bearer {key}"}
)
response.raise_for_status()
print("answer:", response.json()["data"][0]["id"])
