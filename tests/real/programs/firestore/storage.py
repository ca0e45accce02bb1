# An object and a list of objects by google-cloud-storage, which requests a token before.
from google.cloud import storage

bucket = storage.Client().bucket("files")
assert [found.name for found in bucket.list_blobs()] == ["a.txt"]
print("answer:", bucket.blob("a.txt").download_as_bytes().decode())
