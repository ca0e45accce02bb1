//! Checks whether a pasted value looks like the requested secret, by the key shapes from the API.

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::{AuthView, FieldView, ProviderView};
use keyward_rules::provider::pasted::{self, KeyShapes, ValueMismatch};

pub(in crate::cli) struct Shapes(Vec<ProviderView>);

impl Shapes {
    /// Of the providers that the gateway knows.
    pub(in crate::cli) async fn load(client: &Client) -> Result<Self, Failure> {
        Ok(Self(client.list("/api/v1/providers", &[]).await?.items))
    }

    /// Of no providers.
    #[cfg(test)]
    pub(in crate::cli) fn none() -> Self {
        Self(Vec::new())
    }

    pub(in crate::cli) fn providers(&self) -> &[ProviderView] {
        &self.0
    }

    /// Whether a text that is not asked for as a secret, such as a name, is a key of a provider.
    pub(in crate::cli) fn is_key(&self, text: &str) -> bool {
        let all = self.0.iter().flat_map(|one| &one.auth).flat_map(|auth| &auth.fields);
        let secret = all.filter(|field| field.secret);
        pasted::is_key(text, secret.flat_map(|field| &field.prefixes).map(String::as_str))
    }

    /// Judges the value of a field; `Ok` may hold a remark.
    pub(in crate::cli) fn judge(
        &self,
        provider: &ProviderView,
        auth: &AuthView,
        field: &FieldView,
        value: &Typed,
    ) -> Result<Option<String>, ValueMismatch> {
        if !field.secret {
            return Ok(None);
        }
        let is_wanted = |keys: &KeyShapes<'_>| keys.provider == provider.id && keys.auth == auth.id;
        let each = self.0.iter().flat_map(|one| one.auth.iter().map(move |auth| (one, auth)));
        let others = each.flat_map(|(one, auth)| fields(one, auth));
        let others = others.filter(|keys| !is_wanted(keys));
        pasted::judge(value.text(), &keys(provider, auth, field), others)
    }
}

fn fields<'a>(provider: &'a ProviderView, auth: &'a AuthView) -> Vec<KeyShapes<'a>> {
    let secret = auth.fields.iter().filter(|field| field.secret);
    secret.map(|field| keys(provider, auth, field)).collect()
}

fn keys<'a>(provider: &'a ProviderView, auth: &'a AuthView, field: &'a FieldView) -> KeyShapes<'a> {
    KeyShapes {
        provider: &provider.id,
        name: &provider.name,
        auth: &auth.id,
        prefixes: &field.prefixes,
        length: field.length,
        has_pattern: field.pattern.is_some(),
    }
}

/// A misfit as commands fail.
pub(in crate::cli) fn refusal(field: &FieldView, misfit: &ValueMismatch) -> Failure {
    let ValueMismatch { says, remedy, is_final } = misfit;
    let way_on = if *is_final { "" } else { "; if it is correct: --skip-format-check" };
    Failure::usage(format!("`{}` {says}", field.name)).hint(format!("{remedy}{way_on}"))
}
