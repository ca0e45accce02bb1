"""What a program does with the keys of a role: it signs with placeholders, asks who it is, and stores an object."""

import boto3
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

sts = boto3.client("sts", region_name="eu-west-1")
print("who:", sts.get_caller_identity()["Arn"])
s3 = boto3.client("s3", region_name="us-east-1")
s3.create_bucket(Bucket="photos")
s3.put_object(Bucket="photos", Key="a", Body=b"hello")
assert s3.get_object(Bucket="photos", Key="a")["Body"].read() == b"hello"
try:
    sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/other", RoleSessionName="other")
except (ClientError, ResponseParserError):
    print("refused: True")
print("answer: fine")
