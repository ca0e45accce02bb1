"""What programs send to storage with AWS's signatures: a list, an upload, a presigned URL, and a request that is not signed.

python stores.py HOST REGION SERVICE
"""

import os
import sys

import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

host, region, service = sys.argv[1:]
keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
fields, query = (S3SigV4Auth, S3SigV4QueryAuth) if service == "s3" else (SigV4Auth, SigV4QueryAuth)
session = requests.Session()


def signed(signer, method, path, data=None):
    request = AWSRequest(method, f"https://{host}{path}", data=data)
    signer(keys, service, region).add_auth(request)
    return session.request(method, request.url, headers=dict(request.headers), data=data, timeout=20)


answers = [
    signed(fields, "GET", "/photos?list-type=2&prefix=a"),
    signed(fields, "PUT", "/photos/one.txt", b"hello"),
    signed(query, "GET", "/photos/one.txt"),
    # Not signed at all: the gateway signs for the service, in the region of the connection.
    session.get(f"https://{host}/photos/two.txt", timeout=20),
]
for answer in answers:
    assert (answer.status_code, answer.text) == (200, "fine"), answer.text
print("answer: fine")
