"""What programs do with services that want signatures: SDKs that sign with placeholders, and requests without any."""

import os

import requests
from azure.storage.blob import BlobServiceClient
from requests_oauthlib import OAuth1

account = BlobServiceClient("https://account.blob.core.windows.net", credential=os.environ["AZURE_STORAGE_KEY"])
assert "kwph" in os.environ["AZURE_STORAGE_KEY"], "a placeholder"
blob = account.get_blob_client("photos", "a b/ü (1).txt")
blob.upload_blob(b"hello", overwrite=True, metadata={"b10": "x", "b1": "y", "b": "z"})
assert blob.download_blob().readall() == b"hello"
blob.set_blob_metadata({"who": "me"})

names = ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET")
signed = OAuth1(*(os.environ[name] for name in names))


def fine(answer):
    assert answer.status_code == 200, answer.text
    return answer


fine(requests.get("https://api.x.com/2/users/me?user.fields=id,name&q=a%20b+c%2Fd~", auth=signed, timeout=30))
form = {"status": "Hello Ladies + Gentlemen, a signed OAuth request!", "é": "&="}
fine(requests.post("https://api.x.com/1.1/statuses/update.json?include_entities=true", data=form, auth=signed, timeout=30))
fine(requests.post("https://api.x.com/2/tweets", json={"text": "hello"}, timeout=30))
netsuite = "https://1234567-sb1.suitetalk.api.netsuite.com/services/rest/record/v1/customer"
fine(requests.get(f"{netsuite}?limit=5&q=a&q=B", timeout=30))

orders = "https://api.binance.com/api/v3/order"
fine(requests.get("https://api.binance.com/api/v3/account?timestamp=1&signature=stale&omitZeroBalances=true", timeout=30))
fine(requests.post(orders, params={"symbol": "LTCBTC"}, data={"side": "BUY", "quantity": "1"}, timeout=30))
# As ccxt and python-binance send an order.
own = {"timestamp": "1", "symbol": "LTCBTC", "side": "BUY", "signature": "stale"}
fine(requests.post(orders, data=own, timeout=30))

fine(requests.post("https://myorg-account1.snowflakecomputing.com/api/v2/statements", json={"statement": "x"}, timeout=30))
fine(requests.get("https://api.appstoreconnect.apple.com/v1/apps?limit=1", timeout=30))
fine(requests.get("https://blog.acme.test/ghost/api/admin/users/?limit=1", timeout=30))
fine(requests.get("https://api.coinbase.com/api/v3/brokerage/key_permissions", timeout=30))
fine(requests.delete("https://api.coinbase.com/api/v3/brokerage/orders/1?x=1", timeout=30))

fine(requests.get("https://api.bybit.com/v5/order/realtime?category=option&symbol=BTC-29JUL22-25000-C", timeout=30))
fine(requests.post("https://api.bybit.com/v5/order/create", json={"symbol": "BTCUSDT", "qty": "1"}, timeout=30))
fine(requests.get("https://www.okx.com/api/v5/account/balance?ccy=BTC", timeout=30))
fine(requests.post("https://www.okx.com/api/v5/trade/order", json={"instId": "BTC-USDT"}, timeout=30))
fine(requests.get("https://api.exchange.coinbase.com/orders?status=open&limit=5", timeout=30))
stale = {"CB-ACCESS-SIGN": "stale", "CB-ACCESS-TIMESTAMP": "1"}
fine(requests.post("https://api.exchange.coinbase.com/orders", json={"side": "buy"}, headers=stale, timeout=30))
print("answer: fine")
