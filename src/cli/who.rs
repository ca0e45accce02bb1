//! `keyward whoami` and `keyward login`: the identity of commands, and how they get one.

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::table::fields;
use keyward_api::wire::CallerView;

/// Prints the caller.
pub(super) async fn am_i(global: &Global) -> Result<(), Failure> {
    let client = Client::open(global).await?;
    let caller: CallerView = client.get("/api/v1/caller").await?;
    let status = client.status().await;
    output::show(global.json, &caller, |caller| {
        let user = match &caller.user {
            Some(user) => user.clone(),
            None => "the operator: the user that owns the data directory, or root".to_owned(),
        };
        let gateway = match &status {
            Some(status) => format!("{} (admin {})", status.proxy.join(", "), status.admin),
            None if client.host().is_some() => {
                "elsewhere; this token may not read its status".to_owned()
            }
            None => "none runs: commands open the store themselves".to_owned(),
        };
        fields(&[
            ("user", user),
            ("role", caller.role.clone().unwrap_or_default()),
            ("scopes", caller.scopes.join(", ")),
            ("organisation", caller.org.clone()),
            ("gateway", gateway),
        ])
    })
}

/// Commands need no login; says what leads on.
pub(super) fn login(global: &Global) -> Result<(), Failure> {
    let keyward = global.keyward();
    output::print(&format!(
        "Commands on this machine need no login: the gateway recognises your user id.\n\n\
         connect an account for an agent:  {keyward} connect\n\
         act as another user:              {keyward} token add USER\n\
         \u{20}                                 KEYWARD_TOKEN=kwp_... {keyward} whoami\n\
         see who you are:                  {keyward} whoami\n\
         sign in to the console:           {keyward} login-link\n\
         see who is signed in:             {keyward} login list\n\n\
         For a gateway elsewhere, commands take its URL and a token from the environment:\n\n\
         use it:                           export KEYWARD_URL=https://keyward.example.com\n\
         \u{20}                                 export KEYWARD_TOKEN=kwp_...\n"
    ))
}
