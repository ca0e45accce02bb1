//! Signs requests to sources by AWS Signature Version 4, with the signer of the data path.

use jiff::Timestamp;

use super::error::SourceError;
use super::forms::SignatureForm;
use super::request::SourceRequest;
use super::templates::Scope;
use keyward_rules::inject::sign::aws_request::Unsigned;
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;

pub(super) fn signed(
    mut ask: SourceRequest,
    form: &'static SignatureForm,
    scope: &Scope<'_>,
    now: Timestamp,
) -> Result<SourceRequest, SourceError> {
    let keys = AwsKeys {
        access_key_id: scope.credential("access_key_id")?.clone(),
        secret_access_key: scope.credential("secret_access_key")?.clone(),
        session_token: scope.credential("session_token").ok().cloned(),
        region: scope.plain(&form.region)?.map(Into::into),
        service: scope.plain(&form.service)?.map(Into::into),
    };
    let request = ask.request_mut();
    let (uri, body) = (request.uri().clone(), request.body().clone());
    let authority = uri.authority().ok_or(SourceError::Malformed)?.as_str();
    let plan = keys.read(uri.host().unwrap_or_default(), request.headers(), None);
    let plan = plan.map_err(|_| SourceError::Sign)?;
    let unsigned = Unsigned {
        method: "POST",
        authority,
        path: uri.path(),
        fields: request.headers_mut(),
        body: Some(&body),
        now,
    };
    keys.sign(&plan, unsigned).map(drop).map_err(|_| SourceError::Sign)?;
    Ok(ask)
}
