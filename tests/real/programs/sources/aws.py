"""Secrets Manager and Parameter Store by moto, which verifies each signature against the access key that it issued."""
import json
import os
import sys
import time

import boto3
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

value = os.environ["VALUE"]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
place = {
    "endpoint_url": f"http://{host}:{port}",
    "region_name": "eu-west-1",
    "aws_access_key_id": "setup",
    "aws_secret_access_key": "setup",
}

secrets = boto3.client("secretsmanager", **place)
secrets.create_secret(Name="apps/acme", SecretString=json.dumps({"key": value, "user": "ada"}))
secrets.create_secret(Name="binary", SecretBinary=value.encode())
boto3.client("ssm", **place).put_parameter(Name="/apps/acme", Value=value, Type="SecureString")

iam = boto3.client("iam", **place)
iam.create_user(UserName="keyward")
actions = ["secretsmanager:GetSecretValue", "ssm:GetParameter"]
statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
iam.put_user_policy(UserName="keyward", PolicyName="read", PolicyDocument=policy)
key = iam.create_access_key(UserName="keyward")["AccessKey"]

# From here on, requests need a valid signature of an issued key.
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
ActionAuthenticatorMixin.request_count = 1
print(json.dumps({"port": port, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}), flush=True)
sys.stdin.read()
