//! 1Password Connect: vault and item by name or id, then a field by label or id.
//!
//! <https://developer.1password.com/docs/connect/api-reference/>
//! <https://developer.1password.com/docs/cli/secret-reference-syntax/>

use serde::Deserialize;

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded};
use super::value::filled;
use keyward_base::secret::Secret;
use keyward_model::OnePasswordSource;

const RULE: &str = "op://VAULT/ITEM/FIELD or op://VAULT/ITEM/SECTION/FIELD";

/// Ids of vaults and items.
const ID_CHARS: usize = 26;

#[derive(Deserialize)]
struct OnePasswordId {
    id: String,
}

#[derive(Deserialize)]
struct OnePasswordItem {
    #[serde(default)]
    fields: Vec<OnePasswordField>,
    #[serde(default)]
    sections: Vec<OnePasswordSection>,
}

#[derive(Deserialize)]
struct OnePasswordField {
    id: String,
    label: Option<String>,
    value: Option<String>,
    section: Option<OnePasswordId>,
}

#[derive(Deserialize)]
struct OnePasswordSection {
    id: String,
    label: Option<String>,
}

pub(super) async fn value(
    source: &OnePasswordSource,
    requests: &SourceContext<'_>,
    reference: &str,
) -> Result<Secret, SourceError> {
    let path = reference.strip_prefix("op://").ok_or(SourceError::Reference(RULE))?;
    let parts: Vec<&str> = path.split('/').collect();
    let (vault, item, section, field) = match parts.as_slice() {
        [vault, item, field] => (*vault, *item, None, *field),
        [vault, item, section, field] => (*vault, *item, Some(*section), *field),
        _ => return Err(SourceError::Reference(RULE)),
    };
    if parts.iter().any(|part| part.is_empty() || part.contains('"')) {
        return Err(SourceError::Reference(RULE));
    }
    let vaults = format!("{}/v1/vaults", base(Some(&source.address), ""));
    let vault = id_of(requests, &vaults, "name", vault).await?;
    let items = format!("{vaults}/{}/items", encoded(&vault));
    let item = id_of(requests, &items, "title", item).await?;
    let item: OnePasswordItem = get(requests, &format!("{items}/{}", encoded(&item))).await?;
    let named = |id: &str, label: Option<&String>, name: &str| {
        id == name || label.is_some_and(|label| label == name)
    };
    let section = section.map(|name| {
        let found = item.sections.iter().find(|it| named(&it.id, it.label.as_ref(), name));
        found.map(|it| it.id.as_str()).ok_or(SourceError::NotFound)
    });
    let section = section.transpose()?;
    let is_it = |it: &&OnePasswordField| {
        named(&it.id, it.label.as_ref(), field)
            && section.is_none_or(|id| it.section.as_ref().is_some_and(|own| own.id == id))
    };
    let mut found = item.fields.iter().filter(is_it);
    let value = found.next().ok_or(SourceError::NotFound)?.value.clone();
    match found.next() {
        Some(_) => Err(SourceError::Several),
        None => filled(Secret::from(value.ok_or(SourceError::Empty)?)),
    }
}

/// The id of a vault or item; two of one name are ambiguous.
async fn id_of(
    requests: &SourceContext<'_>,
    url: &str,
    attribute: &str,
    name: &str,
) -> Result<String, SourceError> {
    let is_id = name.len() == ID_CHARS
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if is_id {
        return Ok(name.to_owned());
    }
    let filter = encoded(&format!("{attribute} eq \"{name}\""));
    let found: Vec<OnePasswordId> = get(requests, &format!("{url}?filter={filter}")).await?;
    match found.as_slice() {
        [] => Err(SourceError::NotFound),
        [one] => Ok(one.id.clone()),
        _ => Err(SourceError::Several),
    }
}

async fn get<T: serde::de::DeserializeOwned>(
    requests: &SourceContext<'_>,
    url: &str,
) -> Result<T, SourceError> {
    requests.send(SourceRequest::get(url)?.bearer(requests.credential("token")?)?).await
}
