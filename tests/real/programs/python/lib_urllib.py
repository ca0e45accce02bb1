import json
import os
import urllib.request

key = os.environ["OPENAI_API_KEY"]
request = urllib.request.Request(
    "https://api.openai.com/v1/models", headers={"Authorization": f"Bearer {key}"}
)
with urllib.request.urlopen(request) as response:
    print("answer:", json.load(response)["data"][0]["id"])
