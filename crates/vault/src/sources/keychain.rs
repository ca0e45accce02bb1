//! The keyring of a desktop session: the Secret Service over D-Bus, which GNOME Keyring, KWallet and KeePassXC provide.
//!
//! Keyrings are never unlocked, because that prompts a person: a locked one is an error. The bus is a socket of this
//! machine, so the secret is not encrypted on its way (algorithm `plain` of the specification).
//!
//! <https://specifications.freedesktop.org/secret-service-spec/latest/>

use std::collections::HashMap;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::connection::Builder;
use zbus::fdo::Error as BusError;
use zbus::{
    Connection, DBusError, DynamicType, Message, OwnedObjectPath, OwnedVariant, Type, Variant,
};

use super::error::{KeychainError, SourceError};

const RULE: &str = "ATTRIBUTE=VALUE,ATTRIBUTE=VALUE of one item, also with #MEMBER";

/// Time limit, the same as for sources over HTTPS: a request of an agent may wait for it.
const WHOLE: Duration = Duration::from_secs(10);

const NAME: &str = "org.freedesktop.secrets";
const SERVICE_PATH: &str = "/org/freedesktop/secrets";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const ITEM: &str = "org.freedesktop.Secret.Item";
const IS_LOCKED: &str = "org.freedesktop.Secret.Error.IsLocked";

/// A stream to the bus of a session. Closed when dropped, which ends the keyring's session too.
struct DesktopKeyring(Connection);

/// Unlocked items, then locked ones.
type FoundItems = (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>);

/// Session, parameters, value, type of its content.
type ItemSecret = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// The secret of the one item with these attributes.
pub(super) async fn value(address: Option<&str>, reference: &str) -> Result<String, SourceError> {
    let attributes = attributes(reference).ok_or(SourceError::Reference(RULE))?;
    let asked = tokio::time::timeout(WHOLE, secret(address, &attributes)).await;
    let secret = asked.map_err(|_| KeychainError::Timeout(WHOLE.as_secs()))??;
    String::from_utf8(secret).map_err(|_| KeychainError::Binary.into())
}

/// The attributes of a reference; a comma, `=`, `#` or `%` in a value is percent-encoded.
fn attributes(reference: &str) -> Option<HashMap<String, String>> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Into::into);
    let mut attributes = HashMap::new();
    for pair in reference.split(',') {
        let (name, value) = pair.split_once('=').filter(|(name, _)| !name.is_empty())?;
        if attributes.insert(decoded(name)?, decoded(value)?).is_some() {
            return None;
        }
    }
    Some(attributes)
}

async fn secret(
    address: Option<&str>,
    attributes: &HashMap<String, String>,
) -> Result<Vec<u8>, SourceError> {
    let keyring = DesktopKeyring::reach(address).await?;
    let item = keyring.item(attributes).await?;
    Ok(keyring.secret(&item).await?)
}

impl DesktopKeyring {
    async fn reach(address: Option<&str>) -> Result<Self, KeychainError> {
        let user = rustix::process::geteuid().as_raw();
        let usual = || format!("unix:path=/run/user/{user}/bus");
        let address = address.map_or_else(usual, ToOwned::to_owned);
        match Builder::address(address.as_str()).build().await {
            Ok(bus) => Ok(Self(bus)),
            Err(error) => Err(KeychainError::Bus { address, reason: error.to_string() }),
        }
    }

    /// The one item with these attributes. `SearchItems` does not prompt.
    async fn item(
        &self,
        attributes: &HashMap<String, String>,
    ) -> Result<OwnedObjectPath, SourceError> {
        let answer = self.call(SERVICE_PATH, SERVICE, "SearchItems", &(attributes,)).await?;
        let (mut unlocked, locked): FoundItems = read(&answer)?;
        match (unlocked.pop(), unlocked.len(), locked.len()) {
            (Some(item), 0, 0) => Ok(item),
            (None, _, 0) => Err(SourceError::NotFound),
            (None, _, 1) => Err(KeychainError::Locked.into()),
            _ => Err(KeychainError::Several.into()),
        }
    }

    async fn secret(&self, item: &OwnedObjectPath) -> Result<Vec<u8>, KeychainError> {
        let plain = ("plain", Variant::from(""));
        let opened = self.call(SERVICE_PATH, SERVICE, "OpenSession", &plain).await?;
        let (_, session): (OwnedVariant, OwnedObjectPath) = read(&opened)?;
        let answer = self.call(item.as_str(), ITEM, "GetSecret", &(session,)).await?;
        let (_, _, secret, _): ItemSecret = read(&answer)?;
        Ok(secret)
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message, KeychainError>
    where
        B: Serialize + DynamicType,
    {
        let answer = self.0.call_method(Some(NAME), path, Some(interface), method, body).await;
        answer.map_err(refusal)
    }
}

/// The values of an answer.
fn read<T>(answer: &Message) -> Result<T, KeychainError>
where
    T: DeserializeOwned + Type,
{
    let body = answer.body();
    body.deserialize().map_err(|error| KeychainError::Refused(error.to_string()))
}

fn refusal(error: zbus::Error) -> KeychainError {
    match error {
        zbus::Error::FDO(error) => match *error {
            BusError::ServiceUnknown(_) | BusError::NameHasNoOwner(_) => KeychainError::NoKeyring,
            error => KeychainError::Refused(error.name().to_string()),
        },
        // The text of an error may be anything; its name is a word.
        zbus::Error::MethodError(name, ..) => match name.as_str() {
            IS_LOCKED => KeychainError::Locked,
            name => KeychainError::Refused(name.to_owned()),
        },
        error => KeychainError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    async fn refused(address: &str) -> SourceError {
        value(Some(address), "service=acme").await.unwrap_err()
    }

    #[test]
    fn a_reference_names_attributes_once_each() {
        for bad in ["", "acme", "=acme", "service=acme,", "service=a,service=b", "service=%FF"] {
            assert_eq!(attributes(bad), None, "{bad}");
        }
        let expected = [("service", "acme"), ("account", "a=b, c#d%"), ("empty", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = attributes("service=acme,account=a%3Db%2C c%23d%25,empty=");
        assert_eq!(found, Some(HashMap::from(expected)));
    }

    #[tokio::test]
    async fn an_absent_bus_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", folder.path().join("bus").display());
        let refused = refused(&address).await;
        assert!(refused.to_string().starts_with(&format!("the bus {address} cannot")), "{refused}");
        assert!(refused.hint().unwrap().contains("keychain.address"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_does_not_answer_is_reported_as_a_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let _bus = UnixListener::bind(&path).unwrap();
        let refused = refused(&format!("unix:path={}", path.display())).await;
        assert_eq!(refused.to_string(), "the keyring does not answer within 10 s");
    }
}
