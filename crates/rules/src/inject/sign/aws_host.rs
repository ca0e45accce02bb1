//! Region and service of an AWS host, for requests that the agent did not sign.
//!
//! <https://docs.aws.amazon.com/general/latest/gr/rande.html>

/// The region of services with one endpoint for all regions.
const GLOBAL_REGION: &str = "us-east-1";

/// Names in hosts that differ from the name in signatures.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
const RENAMED: &[(&str, &str)] = &[
    ("bedrock-agent", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("email", "ses"),
    ("s3-accelerate", "s3"),
    ("s3-control", "s3"),
    ("s3-fips", "s3"),
];

/// What the hosts of AWS end with.
const SUFFIXES: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// Whether it is a host of AWS, not of a compatible service.
pub(super) fn is_of_aws(host: &str) -> bool {
    SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
}

/// Region and service that `host` names: `SERVICE.REGION.amazonaws.com` with any labels before it, or
/// `SERVICE.amazonaws.com` of a service with one endpoint. `None` for other hosts.
pub fn scope_of(host: &str) -> Option<(&str, &str)> {
    let host =
        host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"));
    let mut labels = host?.rsplit('.');
    let last = labels.next()?;
    let (region, service) = match is_region(last) {
        true => {
            (last, labels.next().filter(|label| *label != "dualstack").or_else(|| labels.next())?)
        }
        false => (GLOBAL_REGION, last),
    };
    let renamed = RENAMED.iter().find(|(name, _)| *name == service);
    Some((region, renamed.map_or(service, |(_, signed)| *signed)))
}

/// The service of a host of several regions. Its requests are signed for all regions.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/MultiRegionAccessPointRequests.html>
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-ge-calling.html>
pub fn multi_region_service(host: &str) -> Option<&'static str> {
    let services = [
        (".accesspoint.s3-global.amazonaws.com", "s3"),
        (".endpoint.events.amazonaws.com", "events"),
    ];
    services.into_iter().find_map(|(suffix, service)| host.ends_with(suffix).then_some(service))
}

/// Whether a label has the shape of a region: `eu-west-1`, `us-gov-east-1`.
fn is_region(label: &str) -> bool {
    let mut parts = label.split('-');
    let area = parts.next().is_some_and(|area| area.len() == 2 && area != "s3");
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    area && label.matches('-').count() >= 2 && parts.next_back().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_multi_region_hosts_give_a_service_without_a_region() {
        let cases = [
            ("m1abc.mrap.accesspoint.s3-global.amazonaws.com", Some("s3")),
            ("abc.veo.endpoint.events.amazonaws.com", Some("events")),
            ("events.us-east-1.amazonaws.com", None),
            ("accesspoint.s3-global.amazonaws.com", None),
            ("m1.mrap.accesspoint.s3-global.amazonaws.com.test", None),
        ];
        for (host, service) in cases {
            assert_eq!(multi_region_service(host), service, "{host}");
        }
    }

    #[test]
    fn a_host_names_region_and_service() {
        let cases = [
            ("sts.amazonaws.com", Some(("us-east-1", "sts"))),
            ("sts.eu-central-1.amazonaws.com", Some(("eu-central-1", "sts"))),
            ("dynamodb.us-gov-west-1.amazonaws.com", Some(("us-gov-west-1", "dynamodb"))),
            ("s3.amazonaws.com", Some(("us-east-1", "s3"))),
            ("photos.s3.amazonaws.com", Some(("us-east-1", "s3"))),
            ("my.photos.s3.eu-west-1.amazonaws.com", Some(("eu-west-1", "s3"))),
            ("photos.s3.dualstack.eu-west-1.amazonaws.com", Some(("eu-west-1", "s3"))),
            ("a1b2.execute-api.ap-south-1.amazonaws.com", Some(("ap-south-1", "execute-api"))),
            ("bedrock-runtime.us-west-2.amazonaws.com", Some(("us-west-2", "bedrock"))),
            ("email.eu-west-1.amazonaws.com", Some(("eu-west-1", "ses"))),
            ("ec2.cn-north-1.amazonaws.com.cn", Some(("cn-north-1", "ec2"))),
            ("minio.corp.example", None),
            ("amazonaws.com", None),
        ];
        for (host, scope) in cases {
            assert_eq!(scope_of(host), scope, "{host}");
        }
    }
}
