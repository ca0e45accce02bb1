//! [`KeyForm`]: the body of the form with a key. Secret values become [`Secret`]s at once, and no page shows them again.

use std::collections::BTreeMap;

use axum::body::Body;
use http::HeaderMap;
use zeroize::Zeroizing;

use super::offers::{Offer, Offers};
use super::render::Problem;
use crate::consents::form_of;
use crate::state::Admin;
use keyward_base::secret::Secret;
use keyward_rules::provider::Field;

/// Keys of service accounts and certificates take a few KiB.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Before the name of a field of the auth method.
pub(super) const FIELD: &str = "field.";

/// Before the name of a host variable.
pub(super) const VARIABLE: &str = "variable.";

/// What a person has entered.
#[derive(Default)]
pub(super) struct KeyForm {
    pub(super) fields: BTreeMap<String, Secret>,
    pub(super) variables: BTreeMap<String, String>,
}

impl KeyForm {
    /// Reads the body; `anyway`: values that look like something else are accepted.
    ///
    /// # Errors
    /// When it is malformed or too long, or a value looks like something else.
    pub(super) async fn read(
        admin: &Admin,
        headers: &HeaderMap,
        body: Body,
        offers: &Offers,
        offer: &Offer,
        anyway: bool,
    ) -> Result<Self, Problem> {
        // A button without fields.
        if http_body::Body::size_hint(&body).exact() == Some(0) {
            return Ok(Self::default());
        }
        let unreadable = || refused("the form cannot be read");
        let body = form_of(admin, headers, body, FORM_BYTES_MAX).await.ok_or_else(unreadable)?;
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(&body) {
            if let Some(name) = name.strip_prefix(VARIABLE) {
                form.variables.insert(name.to_owned(), value.trim().to_owned());
            } else if let Some(name) = name.strip_prefix(FIELD) {
                let value = Zeroizing::new(value.into_owned());
                form.take(offers, offer, name, &value, anyway)?;
            }
        }
        Ok(form)
    }

    fn take(
        &mut self,
        offers: &Offers,
        offer: &Offer,
        name: &str,
        value: &Zeroizing<String>,
        anyway: bool,
    ) -> Result<(), Problem> {
        let unknown = || refused("the form has a field that this provider does not have");
        let known: Option<&Field> = offer.auth().fields.iter().find(|field| field.name == name);
        let field = known.ok_or_else(unknown)?;
        let value = value.trim();
        if value.is_empty() && field.optional {
            return Ok(());
        }
        if field.secret
            && let Err(mismatch) = offers.judge(offer, field, value)
            && (mismatch.is_final || !anyway)
        {
            return Err(Problem {
                message: format!("{} {}", field.label, mismatch.says),
                hint: Some(mismatch.remedy),
                may_insist: !mismatch.is_final,
            });
        }
        match self.fields.insert(name.to_owned(), Secret::new(value)) {
            None => Ok(()),
            Some(_) => Err(refused("the form has a field twice")),
        }
    }
}

fn refused(message: &str) -> Problem {
    Problem { message: message.to_owned(), hint: None, may_insist: false }
}
