//! Default settings of a new app, from a template. Settings of the app itself take precedence.

use super::app_check;
use super::error::VaultError;
use keyward_model::{AppSettings, AppSpec};
use keyward_rules::provider::{Catalogue, Template};

/// The app with the scopes and settings of a template of its provider where it has none itself.
///
/// # Errors
/// When its provider has no such template, or the template has settings that apps do not have.
pub fn with_template(
    mut app: AppSpec,
    catalogue: &Catalogue,
    id: &str,
) -> Result<AppSpec, VaultError> {
    let provider = catalogue.get(&app.provider);
    let provider = provider.ok_or_else(|| VaultError::UnknownProvider(app.provider.clone()))?;
    let known = &provider.about.templates;
    let Some(template) = known.iter().find(|template| template.id == id) else {
        let known: Vec<_> = known.iter().map(|template| template.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let what = format!("provider `{}` has no template `{id}`; it has: {known}", provider.id);
        return Err(app_check::refused("template", what));
    };
    app.settings = app.settings.with_defaults(settings(template)?);
    if app.scopes.is_empty() {
        app.scopes.clone_from(&template.scopes);
    }
    Ok(app)
}

/// The settings of a template.
///
/// # Errors
/// When a setting is unknown or out of bounds.
pub fn settings(template: &Template) -> Result<AppSettings, VaultError> {
    serde_json::from_value(template.settings.clone()).map_err(|error| {
        app_check::refused("template", format!("template `{}`: {error}", template.id))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_template_of_the_catalogue_has_a_unique_id_scopes_and_valid_settings() {
        let mut seen = BTreeSet::new();
        for provider in Catalogue::built_in().all() {
            for template in &provider.about.templates {
                assert!(seen.insert(template.id.clone()), "{}", template.id);
                settings(template).unwrap_or_else(|error| panic!("{}: {error}", template.id));
                assert!(!template.scopes.is_empty(), "{}", template.id);
            }
        }
        assert!(seen.contains("google_workspace") && seen.contains("slack"));
    }
}
