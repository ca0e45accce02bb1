//! Certificates and keys of connections for TLS handshakes, under the names that the provider's file gives them.

use std::collections::BTreeMap;

use super::GrantError;
use keyward_base::id::ConnectionId;
use keyward_base::secret::Secret;
use keyward_net::tls;
use keyward_rules::inject::credential::ConnectionTls;
use keyward_rules::provider::TlsFields;

/// Checks that the texts of a new grant are certificates and the key of the first.
///
/// # Errors
/// When they are not.
pub(super) fn check(
    names: &TlsFields,
    fields: &BTreeMap<String, Secret>,
) -> Result<(), GrantError> {
    let (identity, ca) = found(names, fields);
    let refused = |field: &Option<String>, why: &str| {
        let (field, why) = (field.clone().unwrap_or_default(), why.to_owned());
        Err(GrantError::Refused { field, why })
    };
    if identity.is_some_and(|(chain, key)| !tls::is_identity(chain, key)) {
        return refused(
            &names.key,
            "certificate and private key are not PEM, or do not belong together",
        );
    }
    if ca.is_some_and(|ca| !tls::is_ca(ca)) {
        return refused(&names.ca, "this is not a certificate in PEM");
    }
    Ok(())
}

/// The client certificate and CA of a connection; `None` if its owner gave neither.
pub(super) fn of_connection(
    connection: &ConnectionId,
    names: &TlsFields,
    fields: &BTreeMap<String, Secret>,
) -> Option<ConnectionTls> {
    let (identity, ca) = found(names, fields);
    let identity = identity.map(|(chain, key)| (chain.clone(), key.clone()));
    ConnectionTls::new(connection, identity, ca.cloned())
}

type TlsTexts<'a> = (Option<(&'a Secret, &'a Secret)>, Option<&'a Secret>);

fn found<'a>(names: &TlsFields, fields: &'a BTreeMap<String, Secret>) -> TlsTexts<'a> {
    let field = |name: &Option<String>| fields.get(name.as_deref()?);
    (field(&names.certificate).zip(field(&names.key)), field(&names.ca))
}
