//! What files are uploaded with.

use aws_sdk_s3::config::Credentials;
use domain::export::Plan;
use domain::integration::{Access, Bucket};

use crate::roles::Granted;
use crate::{App, ExportError};

/// What a plan is uploaded with: the customer's key, or credentials of the customer's role, which may refuse.
///
/// # Errors
/// When the secret cannot be decrypted, or STS fails.
pub async fn granted(
    app: &App,
    tenant: &str,
    id: &str,
    bucket: &Bucket,
    plan: &Plan,
) -> Result<Granted, ExportError> {
    match &bucket.access {
        Access::Key {
            aws_access_key_id,
            aws_secret_access_key,
        } => {
            let secret = app.secrets.decrypt(tenant, id, aws_secret_access_key);
            let secret = secret.await?;
            let key = Credentials::new(
                aws_access_key_id,
                secret.expose(),
                None,
                None,
                "customer's key",
            );
            Ok(Granted::Credentials(key))
        }
        Access::Role {
            role_arn,
            external_id,
        } => {
            let assumed = app.roles.assume(role_arn, external_id, id, plan);
            Ok(assumed.await?)
        }
    }
}
