"""Hosts that stand for several regions: botocore signs for them by Signature Version 4A, with AWS's own library in C."""

import os

import boto3
import requests
from botocore.awsrequest import AWSRequest
from botocore.crt.auth import CrtS3SigV4AsymAuth


class InChunks(CrtS3SigV4AsymAuth):
    """Signs the head of an upload whose chunks are signed."""

    def _get_existing_sha256(self, request):
        return "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"

    def _should_sha256_sign_payload(self, request):
        return True


POINT = "arn:aws:s3::123456789012:accesspoint/m1abc.mrap"
s3 = boto3.client("s3", region_name="us-east-1")
s3.put_object(Bucket=POINT, Key="a b+c/ü", Body=b"hello", Metadata={"who": "me  too"})
assert s3.get_object(Bucket=POINT, Key="a b+c/ü")["Body"].read() == b"hello"
url = s3.generate_presigned_url("get_object", {"Bucket": POINT, "Key": "a b+c/ü"}, ExpiresIn=600)
assert "kwph" in url and "AWS4-ECDSA-P256-SHA256" in url, url
answer = requests.get(url, timeout=20)
assert answer.content == b"hello", answer.content
# Not signed at all: the host says that it stands for several regions.
answer = requests.get("https://m1abc.mrap.accesspoint.s3-global.amazonaws.com/a%20b%2Bc/%C3%BC", timeout=20)
assert answer.content == b"hello", answer.content

# Chunks that are signed as the SDK for Java does it: the head is botocore's, the signatures of the chunks are fillers.
request = AWSRequest("PUT", "https://m1abc.mrap.accesspoint.s3-global.amazonaws.com/in-chunks", {
    "content-encoding": "aws-chunked",
    "x-amz-decoded-content-length": "70000",
})
InChunks(s3._get_credentials(), "s3", "*").add_auth(request)
data = os.urandom(70000)
chunks = [data[:65536], data[65536:], b""]
body = b"".join(f"{len(one):x};chunk-signature={'0' * 144}\r\n".encode() + one + b"\r\n" for one in chunks)
answer = requests.put(request.url, data=body, headers=dict(request.headers.items()), timeout=20)
assert answer.status_code == 200, answer.text
answer = requests.get(request.url, timeout=20)
assert answer.content == data, answer.content[:200]

events = boto3.client("events", region_name="us-east-1")
entry = {"Source": "tests", "DetailType": "ready", "Detail": "{}", "EventBusName": "bus"}
assert events.put_events(EndpointId="abcde.veo", Entries=[entry])["FailedEntryCount"] == 0
print("answer: fine")
