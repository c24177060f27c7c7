//! The rules for the values of an integration's fields. Every refusal is a sentence that follows the field's name.

use domain::integration::{Callback, IntegrationType};
use domain::time::Millis;

/// The longest id (docs/api.md).
const MAX_ID_CHARS: usize = 50;
/// The longest `api_key`; also what KMS encrypts at the most in one call.
const MAX_API_KEY_CHARS: usize = 4_096;
/// The longest parts of AWS credentials; AWS's own have 20 and 40 characters.
const MAX_CREDENTIAL_CHARS: usize = 128;
/// The longest `key_prefix`: leaves room for the rest of a key, which S3 limits to 1,024 bytes.
const MAX_PREFIX_BYTES: usize = 512;

/// The longest ARN of a role: IAM allows 512 characters of path and 64 of name.
pub const MAX_ROLE_ARN_CHARS: usize = 613;

/// AWS's regions. A closed list: the region becomes part of a host name.
const REGIONS: [&str; 40] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "me-west-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// `id`: `^[a-z0-9-]+$`, 1 to 50 characters (docs/api.md).
pub fn id(id: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.is_empty() || id.len() > MAX_ID_CHARS || !id.bytes().all(allowed) {
        return Err(format!(
            "must have 1 to {MAX_ID_CHARS} lower-case letters, digits and dashes, such as erp-1"
        ));
    }
    Ok(())
}

/// `api_key`: 1 to 4,096 visible ASCII characters, since it becomes part of a header.
pub fn api_key(key: &str) -> Result<(), String> {
    visible(key, MAX_API_KEY_CHARS)
}

/// How many headers of its own an integration can have (docs/api.md).
pub const MAX_HEADERS: usize = 10;
/// The longest name of such a header.
const MAX_HEADER_NAME_CHARS: usize = 100;
/// Headers that every request has already, or that are a connection's own (RFC 9110, section 7.6.1).
const RESERVED_HEADERS: [&str; 19] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The name of a header of an integration's own, in lower case: a token (RFC 9110, section 5.1) that is not reserved.
pub fn header_name(name: &str) -> Result<String, String> {
    let is_token = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !is_token || name.len() > MAX_HEADER_NAME_CHARS {
        return Err(format!(
            "must be a name of a header: 1 to {MAX_HEADER_NAME_CHARS} letters, digits and !#$%&'*+-.^_`|~"
        ));
    }
    let name = name.to_ascii_lowercase();
    if name == "authorization" {
        return Err("is reserved; give api_key instead".to_owned());
    }
    if RESERVED_HEADERS.contains(&name.as_str()) || name.starts_with("webhook-") {
        return Err("is reserved: every request has it already, or none may".to_owned());
    }
    Ok(name)
}

/// The value of such a header: 1 to 4,096 visible ASCII characters, with blanks between them (RFC 9110, section 5.5).
pub fn header_value(value: &str) -> Result<(), String> {
    let is_visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
    let is_value = !value.is_empty()
        && value.len() <= MAX_API_KEY_CHARS
        && value.bytes().all(is_visible)
        && value.trim() == value;
    match is_value {
        true => Ok(()),
        false => Err(format!(
            "must have 1 to {MAX_API_KEY_CHARS} visible ASCII characters, and blanks only between them"
        )),
    }
}

/// The most bytes that the key and the headers of a webhook have together, as they are encrypted. They are read with the integration
/// for every batch of events, whatever its filter lets pass.
const MAX_SECRETS_BYTES: usize = 8 * 1024;

/// `api_key` and `headers` together: 8 KiB, as KMS encrypts them, which adds about 150 bytes to each.
pub fn secrets(callback: &Callback) -> Result<(), String> {
    let secrets = callback.api_key.iter().chain(callback.headers.values());
    // Base64 has four characters for three bytes.
    let bytes: usize = secrets.map(|stored| stored.cipher.len() / 4 * 3).sum();
    if bytes <= MAX_SECRETS_BYTES {
        return Ok(());
    }
    Err(format!(
        "has {bytes} bytes of secrets, encrypted, in api_key and headers; at most {MAX_SECRETS_BYTES} are accepted"
    ))
}

/// `aws_access_key_id`: by its first four letters AWS says what an id names
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>). An id of another form, as
/// services that speak S3's protocol have, is taken as it is.
pub fn access_key_id(id: &str) -> Result<(), String> {
    visible(id, MAX_CREDENTIAL_CHARS)?;
    let is_aws = id.len() >= 16 && has_letters_of_ids(id);
    match id.get(..4) {
        Some("ASIA") if is_aws => Err("is a temporary key, which would need a session token and expires; give the access key of a user (AKIA…), or a role_arn".to_owned()),
        Some(start) if is_aws && OTHER_IDS.contains(&start) => Err(format!(
            "is no access key: those of users begin with AKIA, not {start}"
        )),
        _ if looks_secret(id) => Err("looks like a secret access key; are the two mixed up?".to_owned()),
        _ => Ok(()),
    }
}

/// `aws_secret_access_key`.
pub fn secret_access_key(secret: &str) -> Result<(), String> {
    visible(secret, MAX_CREDENTIAL_CHARS)?;
    let begins_as_id = secret.starts_with("AKIA") || secret.starts_with("ASIA");
    match secret.len() == 20 && has_letters_of_ids(secret) && begins_as_id {
        true => Err("looks like an access key id; are the two mixed up?".to_owned()),
        false => Ok(()),
    }
}

/// How ids of IAM begin that are no access keys: users, roles, groups, policies, certificates and the like.
const OTHER_IDS: [&str; 9] = [
    "ABIA", "ACCA", "AGPA", "AIDA", "AIPA", "ANPA", "ANVA", "APKA", "AROA",
];

/// Whether a text has the letters of which IAM makes ids, and no others.
fn has_letters_of_ids(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Whether a text has the form of a secret access key: 40 characters of base64, as no id has.
fn looks_secret(text: &str) -> bool {
    text.len() == 40
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+'))
}

fn visible(text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > max || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "must have 1 to {max} visible ASCII characters, without spaces"
        ));
    }
    Ok(())
}

/// `aws_region`.
pub fn region(region: &str) -> Result<(), String> {
    if REGIONS.contains(&region) {
        Ok(())
    } else {
        Err("must be a region of AWS, such as eu-west-1".to_owned())
    }
}

/// How names of buckets may not begin (S3 reserves these).
const RESERVED_BUCKET_STARTS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
/// How they may not end: these are no buckets that take a plain upload, but Object Lambda, multi-Region access points,
/// directory and table buckets. `-s3alias` is allowed: an access point's alias means its bucket.
const RESERVED_BUCKET_ENDS: [&str; 4] = ["--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// `bucket`: S3's rules for names, and the underscores that older buckets have.
pub fn bucket(bucket: &str) -> Result<(), String> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    let bytes = bucket.as_bytes();
    let well_formed = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| allowed(*byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && !bucket.contains("..")
        && bucket.parse::<std::net::Ipv4Addr>().is_err()
        && !RESERVED_BUCKET_STARTS
            .iter()
            .any(|start| bucket.starts_with(start))
        && !RESERVED_BUCKET_ENDS.iter().any(|end| bucket.ends_with(end));
    if well_formed {
        Ok(())
    } else {
        Err(
            "must be the name of an S3 bucket: 3 to 63 lower-case letters, digits, dots and dashes"
                .to_owned(),
        )
    }
}

/// `key_prefix`: a path without control characters, `..`, and slashes at its beginning or doubled.
pub fn key_prefix(prefix: &str) -> Result<(), String> {
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(format!("must not be longer than {MAX_PREFIX_BYTES} bytes"));
    }
    if prefix.is_empty()
        || prefix.starts_with('/')
        || prefix.contains("//")
        || prefix.chars().any(char::is_control)
    {
        return Err("must be a path such as exports/erp: not empty, without a slash at its beginning, double slashes and control characters".to_owned());
    }
    if prefix.split('/').any(|part| part == ".." || part == ".") {
        return Err("must not have . or .. as a part of its path".to_owned());
    }
    Ok(())
}

/// `aws_region` where files are written through a role: one of the partition of `ours`, an ARN of this service, since roles
/// are not assumed across partitions.
pub fn region_of_role(region: &str, ours: &str) -> Result<(), String> {
    let partition = match region.split('-').collect::<Vec<_>>().as_slice() {
        ["cn", ..] => "aws-cn",
        ["us", "gov", ..] => "aws-us-gov",
        ["eusc", ..] => "aws-eusc",
        _ => "aws",
    };
    if ours.split(':').nth(1) == Some(partition) {
        Ok(())
    } else {
        Err("is of another partition of AWS than this service; give an access key instead of role_arn".to_owned())
    }
}

/// `bucket` where files are written through a role: not the alias of an access point, which no policy can name (AWS).
pub fn bucket_of_role(bucket: &str) -> Result<(), String> {
    if bucket.ends_with("-s3alias") {
        Err(
            "must be the bucket itself where role_arn is given, not an access point's alias"
                .to_owned(),
        )
    } else {
        Ok(())
    }
}

/// `key_prefix` where files are written through a role: a session policy names it, in which other characters are wildcards
/// and variables, or take more room than there is (2,048 characters).
pub fn key_prefix_of_role(prefix: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/!-_.'()=+@:,".contains(&byte);
    if prefix.bytes().all(allowed) {
        Ok(())
    } else {
        Err("must have letters, digits and /!-_.'()=+@: only, where role_arn is given".to_owned())
    }
}

/// `role_arn`: a role of another account than that of `ours`, an ARN of this service. A role of its own account could be
/// assumed without the external id, and would let tenants write where the service may.
pub fn role_arn(role_arn: &str, ours: &str) -> Result<(), String> {
    let parts: Vec<&str> = role_arn.splitn(6, ':').collect();
    let our_parts: Vec<&str> = ours.splitn(6, ':').collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(allowed);
    let is_role = match parts.as_slice() {
        ["arn", partition, "iam", "", account, resource] => {
            our_parts.get(1) == Some(partition)
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && resource.strip_prefix("role/").is_some_and(|path| {
                    path.split('/').all(is_name)
                        && path.rsplit('/').next().is_some_and(|name| name.len() <= 64)
                })
        }
        _ => false,
    };
    if !is_role || role_arn.len() > MAX_ROLE_ARN_CHARS {
        let partition = our_parts.get(1).unwrap_or(&"aws");
        return Err(format!(
            "must be the ARN of an IAM role, such as arn:{partition}:iam::123456789012:role/exports"
        ));
    }
    if parts.get(4) == our_parts.get(4) {
        return Err("must be a role of your own AWS account".to_owned());
    }
    Ok(())
}

/// `starts_at` and `ends_at` of a new integration at `now`: the first instant, and the end of a temporary one.
///
/// The error is the field's name and a sentence.
pub fn range(
    integration_type: IntegrationType,
    starts_at: Option<&str>,
    ends_at: Option<&str>,
    now: Millis,
) -> Result<(Millis, Option<Millis>), (&'static str, String)> {
    let parse = |field, text: Option<&str>| {
        text.map(Millis::parse)
            .transpose()
            .map_err(|reason| (field, reason))
    };
    let (starts_at, ends_at) = (parse("starts_at", starts_at)?, parse("ends_at", ends_at)?);
    if starts_at.is_some_and(|starts_at| starts_at > now) {
        return Err(("starts_at", "must not be in the future".to_owned()));
    }
    match (integration_type, starts_at, ends_at) {
        (IntegrationType::Permanent, _, Some(_)) => {
            Err(("ends_at", "is only for temporary integrations; leave it out, or set integration_type to temporary".to_owned()))
        }
        (IntegrationType::Permanent, starts_at, None) => Ok((starts_at.unwrap_or(now), None)),
        (IntegrationType::Temporary, None, _) => Err(("starts_at", "is required for temporary integrations".to_owned())),
        (IntegrationType::Temporary, _, None) => Err(("ends_at", "is required for temporary integrations".to_owned())),
        (IntegrationType::Temporary, Some(starts_at), Some(ends_at)) if ends_at <= starts_at => {
            Err(("ends_at", format!("must be after starts_at ({starts_at})")))
        }
        (IntegrationType::Temporary, Some(starts_at), Some(ends_at)) => Ok((starts_at, Some(ends_at))),
    }
}

#[cfg(test)]
mod tests;
