import os

import stripe

stripe.api_key = os.environ["STRIPE_API_KEY"]
# It brings its own CA file, and reads no other unless told.
stripe.ca_bundle_path = os.environ["SSL_CERT_FILE"]
print("answer:", stripe.Balance.retrieve()["available"][0]["currency"])
