//! Region and service of an AWS host, for requests that the agent did not sign and for actions of one service.
//! `aws_hosts.tsv` has the names.

use std::sync::LazyLock;

/// The table.
#[derive(Default)]
struct AwsHosts {
    partitions: Vec<Partition>,
    /// Ends of hosts of several regions, and the service.
    of_regions: Vec<(&'static str, &'static str)>,
    /// Names in hosts, and those in signatures.
    renamed: Vec<(&'static str, &'static str)>,
}

/// Regions with accounts of their own.
struct Partition {
    /// What its hosts end with.
    suffix: &'static str,
    /// The region of its services with one endpoint for all regions.
    global_region: &'static str,
    /// These services, by their names in signatures.
    global_services: Vec<&'static str>,
}

static HOSTS: LazyLock<AwsHosts> = LazyLock::new(|| {
    let table = AwsHosts::read(include_str!("aws_hosts.tsv"));
    table.expect("the table is sound: a test reads it")
});

impl AwsHosts {
    fn read(text: &'static str) -> Option<Self> {
        let mut hosts = Self::default();
        for row in text.lines().filter(|row| !row.starts_with('#')) {
            let columns: Vec<&'static str> = row.split('\t').collect();
            match columns[..] {
                ["partition", suffix, global_region, services] => {
                    let global_services = services.split(' ').collect();
                    hosts.partitions.push(Partition { suffix, global_region, global_services });
                }
                ["regions", suffix, service] => hosts.of_regions.push((suffix, service)),
                ["name", name, signed] => hosts.renamed.push((name, signed)),
                _ => return None,
            }
        }
        Some(hosts)
    }
}

/// Names of services, as [`api_of`] gives them.
pub fn services() -> impl Iterator<Item = &'static str> {
    listed().map(|(name, _)| name)
}

/// Services and the beginnings of their hosts.
fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("aws_services.tsv").lines().filter_map(|line| line.split_once('\t'))
}

/// The partition of a host of AWS, and the labels before its suffix.
fn partition_of(host: &str) -> Option<(&'static Partition, &str)> {
    HOSTS.partitions.iter().find_map(|one| Some((one, host.strip_suffix(one.suffix)?)))
}

/// Whether it is a host of AWS, not of a compatible service.
pub(crate) fn is_of_aws(host: &str) -> bool {
    partition_of(host).is_some()
}

/// Region and service that `host` names. It ends with `SERVICE.REGION`, `REGION.SERVICE` (such as endpoints of search
/// domains), `s3-REGION`, or a service with one endpoint for all regions. `None` for other hosts.
pub fn scope_of(host: &str) -> Option<(&str, &str)> {
    let (partition, labels) = partition_of(host)?;
    // https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-access-aws-services.html
    let labels = labels.strip_suffix(".vpce").unwrap_or(labels);
    let (before, last) = labels.rsplit_once('.').unwrap_or(("", labels));
    if is_region(last) {
        return (!before.is_empty()).then(|| (last, signed_name(before)));
    }
    let region = before.rsplit('.').next().filter(|label| is_region(label));
    // Before `s3`, it is a bucket with a name like that of a region.
    if let Some(region) = region
        && signed_name(last) != "s3"
    {
        return Some((region, signed_name(last)));
    }
    if let Some(region) = last.strip_prefix("s3-").filter(|label| is_region(label)) {
        return Some((region, "s3"));
    }
    let service = signed_name(labels);
    let is_global = partition.global_services.contains(&service);
    is_global.then_some((partition.global_region, service))
}

/// The name in signatures for the labels that name a service, such as `123456789012.s3-control`.
fn signed_name(labels: &str) -> &str {
    let labels = labels.strip_suffix(".dualstack").unwrap_or(labels);
    let labels = labels.strip_suffix("-fips").unwrap_or(labels);
    if let Some((_, signed)) = HOSTS.renamed.iter().find(|(name, _)| fits(labels, name)) {
        return signed;
    }
    match labels.rsplit('.').next().unwrap_or(labels) {
        // The label has a zone, as in `s3express-usw2-az1`.
        zone if zone.starts_with("s3express-") => "s3express",
        label => label,
    }
}

/// Whether the last of the labels are those of a name in the table.
fn fits(labels: &str, name: &str) -> bool {
    match name.strip_prefix('*') {
        Some(rest) => labels.ends_with(rest),
        None => labels
            .strip_suffix(name)
            .is_some_and(|before| before.is_empty() || before.ends_with('.')),
    }
}

/// The service of a host of several regions. Its requests are signed for all regions.
pub fn multi_region_service(host: &str) -> Option<&'static str> {
    let found = HOSTS.of_regions.iter().find(|(suffix, _)| host.ends_with(suffix));
    found.map(|(_, service)| *service)
}

/// The service whose API the host has: its name in signatures, except that the control of S3 (access points, jobs,
/// grants) is a service of its own.
///
/// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
pub fn api_of(host: &str) -> Option<&str> {
    let service = scope_of(host).map(|(_, service)| service);
    match service.or_else(|| multi_region_service(host))? {
        "s3" if is_s3_control(host) => Some("s3-control"),
        service => Some(service),
    }
}

/// Whether it is `[ACCOUNT.]s3-control.REGION`, or its VPC endpoint `control.vpce-….s3.REGION`. A bucket can have these
/// labels before `s3`.
fn is_s3_control(host: &str) -> bool {
    let mut labels = host.split('.').peekable();
    if labels.next_if_eq(&"control").is_some() {
        return labels.next().is_some_and(|label| label.starts_with("vpce-"));
    }
    while let Some(label) = labels.next() {
        let next = labels.peek().copied().unwrap_or_default();
        if matches!(label, "s3-control" | "s3-control-fips")
            && (is_region(next) || next == "dualstack")
        {
            return true;
        }
    }
    false
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
    fn a_row_that_cannot_be_read_is_no_table() {
        for row in ["name\tiot", "partition\t.a\tb", "region\t.a\tb", ""] {
            assert_eq!(AwsHosts::read(row).is_none(), !row.is_empty(), "{row}");
        }
    }

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
    fn the_control_of_s3_is_another_api_than_its_buckets() {
        for (host, api) in [
            ("s3.eu-west-1.amazonaws.com", Some("s3")),
            ("b.s3.cn-north-1.amazonaws.com.cn", Some("s3")),
            ("b.vpce-1-a.s3.us-east-1.vpce.amazonaws.com", Some("s3")),
            ("m1.mrap.accesspoint.s3-global.amazonaws.com", Some("s3")),
            ("b--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com", Some("s3express")),
            ("my.s3-control.s3.eu-west-1.amazonaws.com", Some("s3")),
            ("control.s3.eu-west-1.amazonaws.com", Some("s3")),
            ("s3-control.eu-west-1.amazonaws.com", Some("s3-control")),
            ("12.s3-control-fips.dualstack.us-east-1.amazonaws.com", Some("s3-control")),
            ("control.vpce-1-a.s3.us-east-1.vpce.amazonaws.com", Some("s3-control")),
            ("lambda.eu-west-1.amazonaws.com", Some("lambda")),
            ("minio.test", None),
        ] {
            assert_eq!(api_of(host), api, "{host}");
        }
    }

    #[test]
    fn every_listed_service_is_that_of_its_host() {
        for (service, label) in listed() {
            let host = format!("{label}.eu-west-1.amazonaws.com");
            assert_eq!(api_of(&host), Some(service), "{host}");
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
            ("search-x.eu-west-1.es.amazonaws.com", Some(("eu-west-1", "es"))),
            ("col1.eu-central-1.aoss.amazonaws.com", Some(("eu-central-1", "aoss"))),
            ("eu-west-1.queue.amazonaws.com", Some(("eu-west-1", "sqs"))),
            ("db.cluster-x.eu-west-1.neptune.amazonaws.com", Some(("eu-west-1", "neptune-db"))),
            ("photos.s3-eu-west-1.amazonaws.com", Some(("eu-west-1", "s3"))),
            ("my-photos-1.s3.amazonaws.com", Some(("us-east-1", "s3"))),
            ("photos.s3-accelerate.dualstack.amazonaws.com", Some(("us-east-1", "s3"))),
            ("ap-1.s3-accesspoint-fips.us-east-1.amazonaws.com", Some(("us-east-1", "s3"))),
            (
                "b--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com",
                Some(("us-west-2", "s3express")),
            ),
            ("12.s3-control.dualstack.eu-west-1.amazonaws.com", Some(("eu-west-1", "s3"))),
            ("s3tables.eu-west-1.amazonaws.com", Some(("eu-west-1", "s3tables"))),
            ("vpce-1-a.sqs.us-east-1.vpce.amazonaws.com", Some(("us-east-1", "sqs"))),
            ("iam.amazonaws.com", Some(("us-east-1", "iam"))),
            ("global.health.amazonaws.com", Some(("us-east-1", "health"))),
            ("iam.us-gov.amazonaws.com", Some(("us-gov-west-1", "iam"))),
            ("route53.amazonaws.com.cn", Some(("cn-northwest-1", "route53"))),
            ("personalize-runtime.eu-west-1.amazonaws.com", Some(("eu-west-1", "personalize"))),
            ("runtime-v2-lex.eu-west-1.amazonaws.com", Some(("eu-west-1", "lex"))),
            ("runtime.lex.eu-west-1.amazonaws.com", Some(("eu-west-1", "lex"))),
            ("pinpoint.eu-west-1.amazonaws.com", Some(("eu-west-1", "mobiletargeting"))),
            ("sms-voice.pinpoint.eu-west-1.amazonaws.com", Some(("eu-west-1", "sms-voice"))),
            ("iot.eu-west-1.amazonaws.com", Some(("eu-west-1", "iot"))),
            ("data-ats.iot.eu-west-1.amazonaws.com", Some(("eu-west-1", "iotdata"))),
            ("a1b2-ats.iot.eu-west-1.amazonaws.com", Some(("eu-west-1", "iotdata"))),
            ("data.jobs.iot.eu-west-1.amazonaws.com", Some(("eu-west-1", "iot-jobs-data"))),
            ("sts-fips.us-east-1.amazonaws.com", Some(("us-east-1", "sts"))),
            ("lambda.amazonaws.com", None),
            ("ec2-192-0-2-1.compute-1.amazonaws.com", None),
            ("eu-west-1.amazonaws.com", None),
            ("minio.corp.example", None),
            ("amazonaws.com", None),
        ];
        for (host, scope) in cases {
            assert_eq!(scope_of(host), scope, "{host}");
        }
    }
}
