//! The relying party of passkeys: W3C Web Authentication Level 3, whose sections are cited (§). Pure: checks the
//! response of a browser to a registration (§7.1) and to a sign-in (§7.2), each for one challenge, one origin and one
//! relying party.
//!
//! No attestation is requested, so a registration is only as trustworthy as the browser that sends it. The key is
//! therefore read as the SubjectPublicKeyInfo of §5.2.1.1, and no CBOR is parsed. A crate for this would bring another
//! crate for each algorithm, or OpenSSL.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// §7.1 step 25: longer ids are refused.
const ID_BYTES_MAX: usize = 1_023;

/// A SubjectPublicKeyInfo of RSA with 8192 bits has some 1100 bytes.
const KEY_BYTES_MAX: usize = 2_048;

/// §6.1: hash of the relying party, flags, counter.
const DATA_BYTES_MIN: usize = 37;

/// §6.1: the flags UP, UV, BE, BS and AT.
const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const MAY_BACK_UP: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;

#[derive(Clone, Copy, Debug)]
pub struct Ceremony<'a> {
    /// The challenge, as bytes.
    pub challenge: &'a [u8],
    /// The origin of our own pages: `https://keys.example.com`.
    pub origin: &'a str,
    /// The id of the relying party: the host of the origin.
    pub rp_id: &'a str,
}

/// The response of a browser to a registration (§5.2.1), decoded from base 64.
#[derive(Clone, Debug)]
pub struct PasskeyRegistration<'a> {
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// `getAuthenticatorData()`.
    pub authenticator_data: &'a [u8],
    /// `getPublicKeyAlgorithm()`.
    pub algorithm: i32,
    /// `getPublicKey()`.
    pub public_key: &'a [u8],
}

/// The response of a browser to a sign-in (§5.2.2).
#[derive(Clone, Debug)]
pub struct PasskeyAssertion<'a> {
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// `authenticatorData`.
    pub authenticator_data: &'a [u8],
    /// `signature`.
    pub signature: &'a [u8],
}

/// A key that was registered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisteredKey {
    /// The id of the credential.
    pub id: Vec<u8>,
    /// The signature counter of the authenticator (§6.1.1); 0: it does not count.
    pub count: u32,
}

/// The algorithms (§5.8.5): each as in the registry of COSE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasskeyAlgorithm {
    /// -7: ECDSA with P-256 and SHA-256.
    Es256,
    /// -8: Ed25519.
    EdDsa,
    /// -257: RSASSA-PKCS1-v1_5 with SHA-256, of older TPMs.
    Rs256,
}

/// Why a response is refused. The browser does not receive the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WebauthnError {
    /// A part cannot be parsed.
    #[error("the response is malformed")]
    Malformed,
    /// It is for another type of ceremony.
    #[error("the response is of another type")]
    Type,
    /// It is for another challenge.
    #[error("the response is for another challenge")]
    Challenge,
    /// It was made on a page of another origin, or in a frame of one.
    #[error("the response was made on a page of another origin")]
    Origin,
    /// It is for another relying party.
    #[error("the response is for another relying party")]
    RelyingParty,
    /// The user was not present, or not verified by the authenticator.
    #[error("the authenticator did not verify its user")]
    NotVerified,
    /// The algorithm or the key is not supported.
    #[error("the algorithm of the key is not supported")]
    Key,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
    /// The authenticator counted fewer signatures than before: there may be a copy of it (§6.1.1).
    #[error("the counter of the authenticator went back: there may be a copy of it")]
    Counter,
}

/// `clientDataJSON` (§5.8.1). Members that are not known are ignored, as §5.8.1 demands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    top_origin: Option<serde_json::Value>,
}

/// Authenticator data (§6.1).
struct AuthenticatorData<'a> {
    flags: u8,
    count: u32,
    /// Attested credential data and extensions.
    rest: &'a [u8],
}

/// The challenge in client data, before anything is checked.
///
/// # Errors
/// When it cannot be read.
pub fn challenge_in(client_data: &[u8]) -> Result<Vec<u8>, WebauthnError> {
    let data: ClientData =
        serde_json::from_slice(client_data).map_err(|_| WebauthnError::Malformed)?;
    let challenge = data_encoding::BASE64URL_NOPAD.decode(data.challenge.as_bytes());
    challenge.map_err(|_| WebauthnError::Malformed)
}

impl PasskeyAlgorithm {
    /// In the order in which they are preferred.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// The number of COSE.
    pub fn number(self) -> i32 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }

    pub fn of(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.number() == number)
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &ECDSA_P256_SHA256_ASN1,
            Self::EdDsa => &ED25519,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl Ceremony<'_> {
    /// Checks a registration: §7.1, steps 5 to 26.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn register(
        &self,
        given: &PasskeyRegistration<'_>,
    ) -> Result<RegisteredKey, WebauthnError> {
        self.check_client_data(given.client_data, "webauthn.create")?;
        let data = self.parse(given.authenticator_data)?;
        let algorithm = PasskeyAlgorithm::of(given.algorithm).ok_or(WebauthnError::Key)?;
        let key = given.public_key;
        if key.len() > KEY_BYTES_MAX || ParsedPublicKey::new(algorithm.verification(), key).is_err()
        {
            return Err(WebauthnError::Key);
        }
        let id = data.credential_id()?.to_vec();
        Ok(RegisteredKey { id, count: data.count })
    }

    /// Checks a sign-in with a registered key: §7.2, steps 10 to 22. Returns the new count.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn sign_in(
        &self,
        given: &PasskeyAssertion<'_>,
        algorithm: PasskeyAlgorithm,
        public_key: &[u8],
        count: u32,
    ) -> Result<u32, WebauthnError> {
        self.check_client_data(given.client_data, "webauthn.get")?;
        let data = self.parse(given.authenticator_data)?;
        let mut signed = given.authenticator_data.to_vec();
        signed.extend_from_slice(&Sha256::digest(given.client_data));
        let key = UnparsedPublicKey::new(algorithm.verification(), public_key);
        key.verify(&signed, given.signature).map_err(|_| WebauthnError::Signature)?;
        match (data.count, count) {
            (0, 0) => Ok(0),
            (new, old) if new > old => Ok(new),
            _ => Err(WebauthnError::Counter),
        }
    }

    /// §7.1 steps 5 to 10, §7.2 steps 10 to 14.
    fn check_client_data(&self, json: &[u8], r#type: &str) -> Result<(), WebauthnError> {
        let data: ClientData =
            serde_json::from_slice(json).map_err(|_| WebauthnError::Malformed)?;
        if data.r#type != r#type {
            return Err(WebauthnError::Type);
        }
        if !bool::from(challenge_in(json)?.ct_eq(self.challenge)) {
            return Err(WebauthnError::Challenge);
        }
        let is_framed = data.cross_origin || data.top_origin.is_some_and(|top| !top.is_null());
        if data.origin != self.origin || is_framed {
            return Err(WebauthnError::Origin);
        }
        Ok(())
    }

    /// §7.1 steps 13 to 18, §7.2 steps 15 to 19.
    fn parse<'d>(&self, data: &'d [u8]) -> Result<AuthenticatorData<'d>, WebauthnError> {
        let (hash, rest) = data
            .split_first_chunk::<32>()
            .filter(|_| data.len() >= DATA_BYTES_MIN)
            .ok_or(WebauthnError::Malformed)?;
        if !bool::from(hash[..].ct_eq(&Sha256::digest(self.rp_id)[..])) {
            return Err(WebauthnError::RelyingParty);
        }
        let (flags, rest) = rest.split_first().ok_or(WebauthnError::Malformed)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(WebauthnError::Malformed)?;
        if flags & PRESENT == 0 || flags & VERIFIED == 0 {
            return Err(WebauthnError::NotVerified);
        }
        if flags & MAY_BACK_UP == 0 && flags & BACKED_UP != 0 {
            return Err(WebauthnError::Malformed);
        }
        Ok(AuthenticatorData { flags: *flags, count: u32::from_be_bytes(*count), rest })
    }
}

impl<'a> AuthenticatorData<'a> {
    /// §6.5.1: AAGUID, the length of the id, and the id. The key follows.
    fn credential_id(&self) -> Result<&'a [u8], WebauthnError> {
        let malformed = WebauthnError::Malformed;
        if self.flags & HAS_CREDENTIAL == 0 {
            return Err(malformed);
        }
        let rest = self.rest.get(16..).ok_or(malformed)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let id = rest.get(..length).ok_or(malformed)?;
        match (1..=ID_BYTES_MAX).contains(&length) && rest.len() > length {
            true => Ok(id),
            false => Err(malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    };
    use serde_json::{Value, json};

    const ORIGIN: &str = "https://keys.example.com";
    const RP_ID: &str = "keys.example.com";
    const CHALLENGE: &[u8] = b"a challenge of 32 bytes or more.";
    const ID: &[u8] = b"the id of a credential";

    const CEREMONY: Ceremony<'static> =
        Ceremony { challenge: CHALLENGE, origin: ORIGIN, rp_id: RP_ID };

    fn client_data(r#type: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
        let challenge = data_encoding::BASE64URL_NOPAD.encode(CHALLENGE);
        let mut data = json!({"type": r#type, "challenge": challenge, "origin": ORIGIN,
                              "crossOrigin": false, "other_keys_can_be_added_here": "do not compare"});
        change(&mut data);
        data.to_string().into_bytes()
    }

    fn data(rp_id: &str, flags: u8, count: u32) -> Vec<u8> {
        let mut data = Sha256::digest(rp_id).to_vec();
        data.push(flags);
        data.extend(count.to_be_bytes());
        data
    }

    fn with_credential(flags: u8) -> Vec<u8> {
        let mut data = data(RP_ID, flags | HAS_CREDENTIAL, 3);
        data.extend([0; 16]);
        data.extend(u16::try_from(ID.len()).unwrap().to_be_bytes());
        data.extend(ID);
        data.extend(b"\xa5a key in COSE");
        data
    }

    /// An authenticator with a key.
    struct Authenticator {
        key: EcdsaKeyPair,
        public: Vec<u8>,
    }

    impl Authenticator {
        fn new() -> Self {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
            let public = public.as_ref().to_vec();
            Self { key, public }
        }

        fn sign(&self, data: &[u8], client: &[u8]) -> Vec<u8> {
            let mut signed = data.to_vec();
            signed.extend_from_slice(&Sha256::digest(client));
            self.key.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec()
        }

        fn tries(&self, client: &[u8], data: &[u8], count: u32) -> Result<u32, WebauthnError> {
            let signature = self.sign(data, client);
            let given = PasskeyAssertion {
                client_data: client,
                authenticator_data: data,
                signature: &signature,
            };
            CEREMONY.sign_in(&given, PasskeyAlgorithm::Es256, &self.public, count)
        }
    }

    type Change = fn(&mut Value);

    /// Invalid client data for both ceremonies, with the expected error.
    const WRONG: &[(WebauthnError, Change)] = &[
        (WebauthnError::Malformed, |data| *data = json!("text")),
        (WebauthnError::Malformed, |data| data["challenge"] = json!("not base 64!")),
        (WebauthnError::Malformed, |data| data["challenge"] = Value::Null),
        (WebauthnError::Type, |data| data["type"] = json!("payment.get")),
        (WebauthnError::Challenge, |data| data["challenge"] = json!("")),
        (WebauthnError::Challenge, |data| data["challenge"] = json!("AAAA")),
        (WebauthnError::Origin, |data| data["origin"] = json!("http://keys.example.com")),
        (WebauthnError::Origin, |data| data["origin"] = json!("https://keys.example.com:444")),
        (WebauthnError::Origin, |data| data["origin"] = json!("https://evil.example")),
        (WebauthnError::Origin, |data| {
            data["origin"] = json!("https://keys.example.com.evil.example")
        }),
        (WebauthnError::Origin, |data| data["crossOrigin"] = json!(true)),
        (WebauthnError::Origin, |data| data["topOrigin"] = json!("https://evil.example")),
    ];

    #[test]
    fn a_sign_in_with_wrong_client_or_authenticator_data_is_refused() {
        let device = Authenticator::new();
        let fine = data(RP_ID, PRESENT | VERIFIED, 4);
        for (at, (why, change)) in WRONG.iter().enumerate() {
            let client = client_data("webauthn.get", change);
            assert_eq!(device.tries(&client, &fine, 3), Err(*why), "row {at}");
        }
        let client = client_data("webauthn.get", |_| {});
        let created = client_data("webauthn.create", |_| {});
        assert_eq!(device.tries(&created, &fine, 3), Err(WebauthnError::Type));
        for (why, data) in [
            (WebauthnError::Malformed, Vec::new()),
            (WebauthnError::Malformed, fine[..36].to_vec()),
            (WebauthnError::RelyingParty, data("evil.example", PRESENT | VERIFIED, 4)),
            (WebauthnError::NotVerified, data(RP_ID, 0, 4)),
            (WebauthnError::NotVerified, data(RP_ID, PRESENT, 4)),
            (WebauthnError::NotVerified, data(RP_ID, VERIFIED, 4)),
            (WebauthnError::Malformed, data(RP_ID, PRESENT | VERIFIED | BACKED_UP, 4)),
            (WebauthnError::Counter, data(RP_ID, PRESENT | VERIFIED, 3)),
            (WebauthnError::Counter, data(RP_ID, PRESENT | VERIFIED, 0)),
        ] {
            assert_eq!(device.tries(&client, &data, 3), Err(why));
        }
        assert_eq!(device.tries(&client, &fine, 3), Ok(4));
        assert_eq!(device.tries(&client, &data(RP_ID, PRESENT | VERIFIED, 0), 0), Ok(0));
    }

    #[test]
    fn a_signature_by_another_key_or_of_other_data_is_refused() {
        let (device, other) = (Authenticator::new(), Authenticator::new());
        let client = client_data("webauthn.get", |_| {});
        let data = data(RP_ID, PRESENT | VERIFIED, 4);
        let good = device.sign(&data, &client);
        let verify = |signature: &[u8], public: &[u8], algorithm| {
            let given =
                PasskeyAssertion { client_data: &client, authenticator_data: &data, signature };
            CEREMONY.sign_in(&given, algorithm, public, 0)
        };
        let refused = Err(WebauthnError::Signature);
        assert_eq!(verify(&good, &other.public, PasskeyAlgorithm::Es256), refused);
        assert_eq!(verify(&good, &device.public, PasskeyAlgorithm::EdDsa), refused);
        assert_eq!(verify(&good, &device.public, PasskeyAlgorithm::Rs256), refused);
        assert_eq!(verify(&good, b"", PasskeyAlgorithm::Es256), refused);
        assert_eq!(verify(b"", &device.public, PasskeyAlgorithm::Es256), refused);
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(verify(&changed, &device.public, PasskeyAlgorithm::Es256), refused);
        let of_other_data = device.sign(&data[..36], &client);
        assert_eq!(verify(&of_other_data, &device.public, PasskeyAlgorithm::Es256), refused);
        assert_eq!(verify(&good, &device.public, PasskeyAlgorithm::Es256), Ok(4));
    }

    #[test]
    fn an_ed25519_key_signs_in() {
        let key = Ed25519KeyPair::generate().unwrap();
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let client = client_data("webauthn.get", |_| {});
        let data = data(RP_ID, PRESENT | VERIFIED, 1);
        let mut signed = data.clone();
        signed.extend_from_slice(&Sha256::digest(&client));
        let signature = key.sign(&signed);
        let given = PasskeyAssertion {
            client_data: &client,
            authenticator_data: &data,
            signature: signature.as_ref(),
        };
        assert_eq!(CEREMONY.sign_in(&given, PasskeyAlgorithm::EdDsa, public.as_ref(), 0), Ok(1));
    }

    #[test]
    fn a_registration_with_wrong_client_data_or_without_a_credential_is_refused() {
        let device = Authenticator::new();
        let tries = |client: &[u8], data: &[u8], algorithm: i32, key: &[u8]| {
            let given = PasskeyRegistration {
                client_data: client,
                authenticator_data: data,
                algorithm,
                public_key: key,
            };
            CEREMONY.register(&given)
        };
        let fine = with_credential(PRESENT | VERIFIED);
        for (at, (why, change)) in WRONG.iter().enumerate() {
            let client = client_data("webauthn.create", change);
            assert_eq!(tries(&client, &fine, -7, &device.public), Err(*why), "row {at}");
        }
        let client = client_data("webauthn.create", |_| {});
        let signed_in = client_data("webauthn.get", |_| {});
        assert_eq!(tries(&signed_in, &fine, -7, &device.public), Err(WebauthnError::Type));
        let malformed = Err(WebauthnError::Malformed);
        for end in [0, 36, 37, 52, 54, 55, fine.len() - b"\xa5a key in COSE".len()] {
            assert_eq!(tries(&client, &fine[..end], -7, &device.public), malformed, "{end}");
        }
        let mut empty = fine.clone();
        (empty[53], empty[54]) = (0, 0);
        assert_eq!(tries(&client, &empty, -7, &device.public), malformed);
        let without = data(RP_ID, PRESENT | VERIFIED, 3);
        assert_eq!(tries(&client, &without, -7, &device.public), malformed);
        let unverified = with_credential(PRESENT);
        let refused = Err(WebauthnError::NotVerified);
        assert_eq!(tries(&client, &unverified, -7, &device.public), refused);
        for (algorithm, key) in
            [(-35, &device.public[..]), (0, &device.public), (-7, b""), (-7, &[0; 3_000])]
        {
            assert_eq!(tries(&client, &fine, algorithm, key), Err(WebauthnError::Key));
        }
        let registered = RegisteredKey { id: ID.to_vec(), count: 3 };
        assert_eq!(tries(&client, &fine, -7, &device.public), Ok(registered));
    }
}
