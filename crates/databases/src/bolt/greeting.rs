//! Reads the first messages of a client: `HELLO`, and since version 5.1 `LOGON`, with `basic` or `bearer`. Nothing else
//! is accepted before.

use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::format::{BoltFormatError, BoltReadError, BoltVersion, LOGON_SINCE};
use super::messages::{self, EARLY_BYTES_MAX, tag};
use super::packstream::{BoltMap, ValueReader};

/// Keys of a login, which are never sent on.
const LOGIN_KEYS: [&str; 6] =
    ["scheme", "principal", "credentials", "realm", "parameters", "ticket"];

/// Keys of `HELLO` that Keyward writes itself.
const OWN_KEYS: [&str; 2] = ["routing", "user_agent"];

/// A client that has sent its login.
pub struct BoltClient {
    pub version: BoltVersion,
    /// The user that it names; empty if it names none.
    pub user: String,
    /// What it gave as its password.
    pub token: Option<Zeroizing<String>>,
    pub hello: ClientHello,
}

/// What a client says of itself, for the server.
#[derive(Clone, Debug, Default)]
pub struct ClientHello {
    /// The name of its driver.
    pub user_agent: String,
    /// Further keys, and the bytes of their values.
    pub entries: Vec<(String, Vec<u8>)>,
    /// How it finds the listener, if it asks for tables of routes.
    pub routes: Option<String>,
}

impl ClientHello {
    fn of(map: &BoltMap<'_>) -> Self {
        let is_kept = |key: &str| !LOGIN_KEYS.contains(&key) && !OWN_KEYS.contains(&key);
        let kept = map.0.iter().filter(|(key, _)| is_kept(key));
        Self {
            user_agent: map.text("user_agent").unwrap_or_default().to_owned(),
            entries: kept.map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect(),
            routes: map.get("routing").and_then(|value| {
                let context = ValueReader(value).map().ok()?;
                Some(context.text("address").unwrap_or_default().to_owned())
            }),
        }
    }
}

/// The user and the token of a login.
#[derive(Default)]
pub struct ClientLogin {
    pub user: String,
    pub token: Option<Zeroizing<String>>,
}

impl ClientLogin {
    /// Those of `basic` and `bearer`. A login of another kind has no token.
    pub fn of(map: &BoltMap<'_>) -> Self {
        let token = || map.text("credentials").map(|token| Zeroizing::new(token.to_owned()));
        match map.text("scheme") {
            Some("basic") => {
                let user = map.text("principal").unwrap_or_default().to_owned();
                Self { user, token: token() }
            }
            Some("bearer") => Self { user: String::new(), token: token() },
            _ => Self::default(),
        }
    }

    /// Compares tokens in constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        self.user == other.user && bool::from(self.token_bytes().ct_eq(other.token_bytes()))
    }

    fn token_bytes(&self) -> &[u8] {
        self.token.as_ref().map(|token| token.as_bytes()).unwrap_or_default()
    }
}

/// Reads the login of a client with which this version was agreed on.
///
/// # Errors
/// When it sends something else.
pub async fn read<S>(stream: &mut S, version: BoltVersion) -> Result<BoltClient, BoltReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message = messages::read(stream, EARLY_BYTES_MAX).await?;
    let map = only_map(&message, tag::HELLO)?;
    let hello = ClientHello::of(&map);
    let ClientLogin { user, token } = match version < LOGON_SINCE {
        true => ClientLogin::of(&map),
        false => {
            stream.write_all(&messages::greeted()).await?;
            stream.flush().await?;
            let message = messages::read(stream, EARLY_BYTES_MAX).await?;
            ClientLogin::of(&only_map(&message, tag::LOGON)?)
        }
    };
    Ok(BoltClient { version, user, token, hello })
}

/// The map of a message, which must have this tag.
fn only_map(message: &[u8], wanted: u8) -> Result<BoltMap<'_>, BoltReadError> {
    match messages::parts(message)? {
        (tag::GOODBYE, ..) => Err(BoltReadError::Ended),
        (tag, 1, mut fields) if tag == wanted => {
            let map = fields.map()?;
            fields.end()?;
            Ok(map)
        }
        _ => Err(BoltFormatError::Order.into()),
    }
}
