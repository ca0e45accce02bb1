//! Doppler, by a service token, or another token with project and config.
//!
//! <https://docs.doppler.com/reference/secrets-get>

use serde::Deserialize;

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded};
use keyward_model::DopplerSource;

const ADDRESS: &str = "https://api.doppler.com";

#[derive(Deserialize)]
struct DopplerSecretAnswer {
    value: DopplerValue,
}

#[derive(Deserialize)]
struct DopplerValue {
    /// The value, with references to other secrets replaced by their values.
    computed: Option<String>,
}

pub(super) async fn value(
    source: &DopplerSource,
    requests: &SourceContext<'_>,
    name: &str,
) -> Result<String, SourceError> {
    let mut url = format!(
        "{}/v3/configs/config/secret?name={}",
        base(source.address.as_deref(), ADDRESS),
        encoded(name)
    );
    for (parameter, value) in [("project", &source.project), ("config", &source.config)] {
        if let Some(value) = value {
            url += &format!("&{parameter}={}", encoded(value));
        }
    }
    let ask = SourceRequest::get(&url)?.bearer(requests.credential("token")?)?;
    let answer: DopplerSecretAnswer = requests.send(ask).await?;
    answer.value.computed.ok_or(SourceError::Empty)
}
