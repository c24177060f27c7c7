//! Checks `s3_parameters` (where files go, and what lets us write them), and encrypts their secret.

use domain::integration::{Access, Bucket, Integration};
use uuid::Uuid;

use crate::bodies::{BucketBody, SecretText};
use crate::error::ApiError;
use crate::targets::{encrypt, required};
use crate::{App, limits};

/// `s3_parameters` of a registration.
pub async fn new(app: &App, tenant: &str, id: &str, body: BucketBody) -> Result<Bucket, ApiError> {
    let (given, body) = given(body)?;
    let fields = BucketFields {
        aws_region: required("s3_parameters.aws_region", body.aws_region)?,
        bucket: required("s3_parameters.bucket", body.bucket)?,
        key_prefix: body.key_prefix.flatten(),
    };
    fields.check(app, matches!(given, Given::Role(_)))?;
    Ok(fields.with(access(app, tenant, id, None, given).await?))
}

/// `s3_parameters` after an update; a mask that comes back keeps the stored secret. A role that is given takes the place of a
/// key, and a key that of a role.
pub async fn changed(
    app: &App,
    current: &Integration,
    before: &Bucket,
    body: BucketBody,
) -> Result<Bucket, ApiError> {
    let (given, body) = given(body)?;
    let Bucket {
        access: access_before,
        aws_region,
        bucket,
        key_prefix,
    } = before.clone();
    let fields = BucketFields {
        aws_region: body.aws_region.unwrap_or(aws_region),
        bucket: body.bucket.unwrap_or(bucket),
        key_prefix: body.key_prefix.unwrap_or(key_prefix),
    };
    let is_for_role = match given {
        Given::Role(_) => true,
        Given::Key(..) => false,
        Given::Nothing => matches!(access_before, Access::Role { .. }),
    };
    fields.check(app, is_for_role)?;
    let (tenant, id) = (&current.tenant, &current.id);
    Ok(fields.with(access(app, tenant, id, Some(access_before), given).await?))
}

/// What a body says of the right to write.
enum Given {
    Nothing,
    /// `aws_access_key_id` and `aws_secret_access_key`.
    Key(Option<String>, Option<SecretText>),
    /// `role_arn`.
    Role(String),
}

fn given(mut body: BucketBody) -> Result<(Given, BucketBody), ApiError> {
    let key = (
        body.aws_access_key_id.take(),
        body.aws_secret_access_key.take(),
    );
    let given = match (key, body.role_arn.take()) {
        ((None, None), None) => Given::Nothing,
        ((None, None), Some(role_arn)) => Given::Role(role_arn),
        ((id, secret), None) => Given::Key(id, secret),
        (_, Some(_)) => {
            return Err(ApiError::bad_field(
                "s3_parameters.role_arn",
                "replaces an access key; leave out either it, or aws_access_key_id and aws_secret_access_key",
            ));
        }
    };
    Ok((given, body))
}

async fn access(
    app: &App,
    tenant: &str,
    id: &str,
    before: Option<Access>,
    given: Given,
) -> Result<Access, ApiError> {
    let (key_id, secret) = match given {
        Given::Nothing => {
            return before.ok_or_else(|| {
                ApiError::bad_field(
                    "s3_parameters.aws_access_key_id",
                    "is required, with aws_secret_access_key, or role_arn instead of both",
                )
            });
        }
        Given::Role(role_arn) => {
            check(
                "role_arn",
                limits::role_arn(&role_arn, &app.export_role_arn),
            )?;
            let external_id = match before {
                Some(Access::Role { external_id, .. }) => external_id,
                _ => app.integrations.external_id(tenant, Uuid::new_v4()).await?,
            };
            return Ok(Access::Role {
                role_arn,
                external_id,
            });
        }
        Given::Key(id, secret) => (id, secret),
    };
    let (id_before, secret_before) = match before {
        Some(Access::Key {
            aws_access_key_id,
            aws_secret_access_key,
        }) => (Some(aws_access_key_id), Some(aws_secret_access_key)),
        _ => (None, None),
    };
    let aws_access_key_id = required("s3_parameters.aws_access_key_id", key_id.or(id_before))?;
    let checked = limits::access_key_id(&aws_access_key_id);
    check("aws_access_key_id", checked)?;
    let field = "s3_parameters.aws_secret_access_key";
    let aws_secret_access_key = match (secret, secret_before) {
        (Some(secret), Some(stored)) if secret.0.expose() == stored.mask => stored,
        (Some(secret), _) => {
            let rule = limits::secret_access_key;
            encrypt(app, tenant, id, field, &secret, rule).await?
        }
        (None, stored) => required(field, stored)?,
    };
    Ok(Access::Key {
        aws_access_key_id,
        aws_secret_access_key,
    })
}

fn check(field: &str, result: Result<(), String>) -> Result<(), ApiError> {
    result.map_err(|reason| ApiError::bad_field(&format!("s3_parameters.{field}"), reason))
}

/// Where files go.
struct BucketFields {
    aws_region: String,
    bucket: String,
    key_prefix: Option<String>,
}

impl BucketFields {
    fn check(&self, app: &App, is_for_role: bool) -> Result<(), ApiError> {
        check("aws_region", limits::region(&self.aws_region))?;
        check("bucket", limits::bucket(&self.bucket))?;
        let prefix = self.key_prefix.as_deref();
        check("key_prefix", prefix.map_or(Ok(()), limits::key_prefix))?;
        if is_for_role {
            let region = limits::region_of_role(&self.aws_region, &app.export_role_arn);
            check("aws_region", region)?;
            check("bucket", limits::bucket_of_role(&self.bucket))?;
            let prefix = prefix.map_or(Ok(()), limits::key_prefix_of_role);
            check("key_prefix", prefix)?;
        }
        Ok(())
    }

    fn with(self, access: Access) -> Bucket {
        let BucketFields {
            aws_region,
            bucket,
            key_prefix,
        } = self;
        Bucket {
            access,
            aws_region,
            bucket,
            key_prefix,
        }
    }
}
