//! Connections of the same provider that cannot be used, such as one that an earlier `keyward connect` left because it was
//! killed.

use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::wire::ProviderView;
use keyward_model::{Connection, ConnectionState, Shown};

/// How many are named.
const NAMED_MAX: usize = 3;

/// Notes each of them with its remedy, before another name is proposed. `asks`: there is a terminal to ask on.
pub(super) fn note(
    global: &Global,
    stored: &[Shown<Connection>],
    provider: &ProviderView,
    asks: bool,
) {
    if !asks {
        return;
    }
    // One that works may be used without a binding that is seen here: by a rule, a hook or agents of others.
    let is_unusable = |one: &&Shown<Connection>| {
        let state = &one.facts.state;
        one.provider == provider.id
            && matches!(state, ConnectionState::Draft { .. } | ConnectionState::Broken { .. })
    };
    for one in stored.iter().filter(is_unusable).take(NAMED_MAX) {
        let (name, remedy) = (one.name(), one.facts.remedy.as_deref().unwrap_or_default());
        let remedy = global.remedy(remedy);
        output::note(&format!("note: connection {name} cannot be used: {remedy}"));
    }
}
