"""Clients that read no proxy variable and no variable for roots by themselves."""

import asyncio
import builtins
import http.client
import os

import aiohttp
import certifi
import httpx
import requests
import urllib3

HOST = "api.openai.com"
FIELDS = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}


def http_client(host):
    connection = http.client.HTTPSConnection(host, timeout=20)
    # The second request is sent on a second stream of the same connection object.
    for _ in range(2):
        connection.request("GET", "/v1/models", headers=FIELDS)
        text = connection.getresponse().read()
        connection.close()
    return text


def urllib3_pool(host):
    pool = urllib3.PoolManager(ca_certs=certifi.where())
    return pool.request("GET", f"https://{host}/v1/models", headers=FIELDS, retries=False).data


def requests_without_environment(host):
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"https://{host}/v1/models", headers=FIELDS, timeout=20).content


def httpx_with_a_transport(host):
    with httpx.Client(transport=httpx.HTTPTransport(retries=0)) as client:
        return client.get(f"https://{host}/v1/models", headers=FIELDS).content


async def httpx_async(host):
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport()) as client:
        return (await client.get(f"https://{host}/v1/models", headers=FIELDS)).content


async def aiohttp_without_environment(host):
    async with aiohttp.ClientSession(trust_env=False, headers=FIELDS) as session:
        async with session.get(f"https://{host}/v1/models") as answer:
            return await answer.read()


CLIENTS = [
    http_client,
    urllib3_pool,
    requests_without_environment,
    httpx_with_a_transport,
    lambda host: asyncio.run(httpx_async(host)),
    lambda host: asyncio.run(aiohttp_without_environment(host)),
]

assert builtins.own_sitecustomize == "ran"
for client in CLIENTS:
    assert b'"id":"fine"' in client(HOST), client

# The name of no host: nothing but a connection of the client's own looks it up.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "direct.invalid"
for client in CLIENTS:
    try:
        client("direct.invalid")
        raise SystemExit("it has no address")
    except Exception as failure:
        assert "403" not in repr(failure) and "Tunnel" not in repr(failure), repr(failure)

print("answer: fine")
