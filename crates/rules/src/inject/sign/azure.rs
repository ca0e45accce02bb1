//! The two canonical texts of Azure Storage's Shared Key; the rest of what it signs is in the provider file.
//!
//! <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::error::SignError;

use http::{HeaderName, HeaderValue, header};
use keyward_base::secret::Secret;

/// The field with the name of the storage account.
const ACCOUNT: &str = "account";

/// Fields whose name begins with `x-ms-`, in order, each on a line of its own.
pub(super) fn headers(fields: &HeaderMap) -> Result<String, SignError> {
    let names = fields.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-ms-"));
    // The service sorts as its language does: without hyphens, and `_` before digits.
    let rank = |name: &str| name.replace('-', "").replace('_', "!");
    let names: BTreeSet<(String, &str)> = names.map(|name| (rank(name), name)).collect();
    let mut text = String::new();
    for (_, name) in names {
        let name = name.parse().map_err(|_| SignError::Unsignable)?;
        let value = header_value(fields, &name)?;
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    Ok(text)
}

/// Account and path, then the parameters: names in lower case and in order, their decoded values in order.
pub(super) fn resource(
    fields: &BTreeMap<String, Secret>,
    path: &str,
    query: &str,
) -> Result<String, SignError> {
    let account = fields.get(ACCOUNT).and_then(Secret::expose_text);
    let mut text = format!("/{}{path}", account.ok_or(SignError::FieldMissing)?);
    let mut parameters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.entry(decoded(name).to_lowercase()).or_default().insert(decoded(value));
    }
    for (name, values) in parameters {
        let values: Vec<String> = values.into_iter().collect();
        text.push_str(&format!("\n{name}:{}", values.join(",")));
    }
    Ok(text)
}

/// The values of a field, joined by commas; empty without one.
pub(super) fn header_value(fields: &HeaderMap, name: &HeaderName) -> Result<String, SignError> {
    // Without a body, libraries leave the length out, or write 0: signatures have neither.
    if *name == header::CONTENT_LENGTH && fields.get(name).is_some_and(|length| length == "0") {
        return Ok(String::new());
    }
    let values: Result<Vec<&str>, _> =
        fields.get_all(name).iter().map(HeaderValue::to_str).collect();
    Ok(values.map_err(|_| SignError::Unsignable)?.join(","))
}
