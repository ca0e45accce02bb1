//! `keyward connection refresh`: a newer token, now.

use super::state::path;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::table::moment;
use keyward_api::wire::TokenRefreshed;

pub(in crate::cli) async fn run(global: &Global, name: &str) -> Result<(), Failure> {
    let client = Client::open_to_send(global).await?;
    let at = format!("{}/refresh", path(name));
    let now: TokenRefreshed = client.post(&at, &serde_json::json!({})).await?;
    output::show(global.json, &now, |now| {
        let ends = now.token.as_ref().and_then(|token| token.expires);
        let ends = ends.map_or_else(String::new, |ends| format!(", good until {}", moment(ends)));
        format!("connection {} has a new token{ends}\n", now.name)
    })
}
