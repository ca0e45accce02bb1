"""What programs do with boto3: objects, an upload in parts, parts of a compressed object, a presigned URL, a table, and who
one is."""

import gzip
import io
import os

import boto3
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.parsers import ResponseParserError

REGION = "eu-west-1"
s3 = boto3.client("s3", region_name="us-east-1")
s3.create_bucket(Bucket="photos")
name = "a b+c/ü ~(1)=&.txt"
s3.put_object(Bucket="photos", Key=name, Body=b"hello", Metadata={"who": "me  too"})
assert s3.get_object(Bucket="photos", Key=name)["Body"].read() == b"hello"
assert s3.list_objects_v2(Bucket="photos", Prefix="a b+c/")["Contents"][0]["Key"] == name

parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
whole = bytes(range(256)) * 46_000
s3.upload_fileobj(io.BytesIO(whole), "photos", "large", Config=parts)
assert s3.get_object(Bucket="photos", Key="large")["Body"].read() == whole
assert "-" in s3.head_object(Bucket="photos", Key="large")["ETag"], "in parts"

packed = gzip.compress(os.urandom(6 << 20), 1)
s3.put_object(Bucket="photos", Key="packed.gz", Body=packed, ContentEncoding="gzip")
down = io.BytesIO()
s3.download_fileobj("photos", "packed.gz", down, Config=TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=1 << 20))
assert down.getvalue() == packed, "in ranges, as it was stored"
for wanted, part in (("bytes=-8", packed[-8:]), ("bytes=10-13", packed[10:14])):
    answer = s3.get_object(Bucket="photos", Key="packed.gz", Range=wanted)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206, wanted
    assert answer["Body"].read() == part, wanted

signed = Config(s3={"payload_signing_enabled": True}, request_checksum_calculation="when_required")
boto3.client("s3", region_name="us-east-1", config=signed).put_object(Bucket="photos", Key="hashed", Body=b"hashed")

for version in ("s3", "s3v4"):
    signer = boto3.client("s3", region_name="us-east-1", config=Config(signature_version=version))
    url = signer.generate_presigned_url("get_object", {"Bucket": "photos", "Key": name}, ExpiresIn=600)
    assert "kwph" in url, "signed with the placeholder"
    answer = requests.get(url, timeout=20)
    assert answer.text == "hello", answer.text

table = boto3.client("dynamodb", region_name=REGION)
table.create_table(
    TableName="t",
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)
table.put_item(TableName="t", Item={"id": {"S": "1"}, "text": {"S": "é" * 1000}})
assert table.get_item(TableName="t", Key={"id": {"S": "1"}})["Item"]["text"]["S"] == "é" * 1000

sts = boto3.client("sts", region_name=REGION)
assert "Arn" in sts.get_caller_identity()
for call in (
    lambda: sts.get_session_token(),
    lambda: sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="session"),
):
    try:
        call()
    except ResponseParserError as error:
        # It expects XML, and quotes the refusal that it cannot read.
        print("refused:", "token_endpoint_refused" in str(error))
print("answer: fine")
