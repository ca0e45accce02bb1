"""redis-py: what applications do in a session, in both versions of the protocol, then what they are shown when they may not
have one."""

import os

import redis

for protocol in (2, 3):
    with redis.Redis.from_url(os.environ["REDIS_URL"], protocol=protocol, decode_responses=True) as client:
        assert client.ping()
        assert client.acl_whoami() == "app"
        client.delete("list", "hash")
        client.set("key", "x" * 5_000_000)
        assert len(client.get("key")) == 5_000_000
        client.hset("hash", mapping={"a": "1", "b": "2"})
        assert client.hgetall("hash") == {"a": "1", "b": "2"}
        # A pipeline of many commands, in a transaction and without.
        for transaction in (False, True):
            with client.pipeline(transaction=transaction) as pipe:
                for number in range(1000):
                    pipe.rpush("list", number)
                assert len(pipe.execute()) == 1000
        # The refusal has its place among the answers of the pipeline.
        with client.pipeline(transaction=False) as pipe:
            pipe.get("hash-a").execute_command("CONFIG", "GET", "requirepass").llen("list")
            none, refused, length = pipe.execute(raise_on_error=False)
        assert none is None and length == 2000, (none, length)
        assert "keyward: CONFIG is refused" in str(refused), refused
        script = client.register_script("return redis.call('LLEN', KEYS[1])")
        assert script(keys=["list"]) == 2000
        assert client.xadd("stream", {"a": "b"}) and client.xlen("stream") >= 1
        # Another session's message.
        with client.pubsub() as subscribed:
            subscribed.subscribe("news")
            assert subscribed.get_message(timeout=60)["type"] == "subscribe"
            client.publish("news", "here")
            assert subscribed.get_message(timeout=60)["data"] == "here"

try:
    redis.Redis.from_url(os.environ["REFUSED_URL"]).ping()
except redis.exceptions.AuthenticationError as error:
    print("refused:", error)
print("answer: fine")
