//! `basic`: user name and password (RFC 7617). The user name ends at the first colon, so values before the template's
//! own colon must not contain one.

use std::collections::BTreeMap;

use super::GrantError;
use keyward_base::secret::Secret;
use keyward_rules::inject::template::{TemplatePart, ValueTemplate};
use keyward_rules::provider::AuthMethod;

/// Checks given fields. Stored ones were checked.
pub(super) fn check(
    auth: &AuthMethod,
    fields: &BTreeMap<String, Secret>,
) -> Result<(), GrantError> {
    let places = auth.placements.iter().flat_map(|scope| &scope.places);
    for name in places.flat_map(|place| before_colon(&place.value)) {
        if fields.get(name).is_some_and(|value| value.expose().contains(&b':')) {
            return Err(GrantError::Colon { field: name.to_owned() });
        }
    }
    Ok(())
}

/// The fields before the colon of `user:password`.
fn before_colon(template: &ValueTemplate) -> impl Iterator<Item = &str> {
    let user = template.parts().iter().take_while(|part| match part {
        TemplatePart::Literal(text) => !text.contains(':'),
        TemplatePart::Field(_) => true,
    });
    user.filter_map(|part| match part {
        TemplatePart::Field(name) => Some(&**name),
        TemplatePart::Literal(_) => None,
    })
}
