//! Google Secret Manager, with the token of a connection, such as one of a service account.
//!
//! <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access>

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded};
use keyward_base::secret::Secret;
use keyward_model::GcpSource;

const ADDRESS: &str = "https://secretmanager.googleapis.com";

#[derive(Deserialize)]
struct AccessAnswer {
    payload: GcpPayload,
}

#[derive(Deserialize)]
struct GcpPayload {
    data: String,
}

pub(super) async fn value(
    source: &GcpSource,
    requests: &SourceContext<'_>,
    token: Option<&Secret>,
    path: &str,
) -> Result<String, SourceError> {
    let (name, version) = path.split_once("/versions/").unwrap_or((path, "latest"));
    if [name, version].iter().any(|part| part.is_empty() || part.contains('/')) {
        return Err(SourceError::Reference("NAME or NAME/versions/VERSION"));
    }
    let url = format!(
        "{}/v1/projects/{}/secrets/{}/versions/{}:access",
        base(source.address.as_deref(), ADDRESS),
        encoded(&source.project),
        encoded(name),
        encoded(version)
    );
    let token = token.ok_or_else(|| SourceError::Connection(source.connection.clone()))?;
    let answer: AccessAnswer = requests.send(SourceRequest::get(&url)?.bearer(token)?).await?;
    let bytes = BASE64_STANDARD.decode(answer.payload.data).map_err(|_| SourceError::Malformed)?;
    String::from_utf8(bytes).map_err(|_| SourceError::Malformed)
}
