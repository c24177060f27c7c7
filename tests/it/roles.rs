//! Files through a role of the tenant's account: whom it has to trust, what a session may do, and whose role it is.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use domain::export::Plan;
use domain::integration::Target;
use domain::time::Millis;
use export::roles::Granted;
use serde_json::{Value, json};
use tests::customer::{Customer, s3_as};
use tests::proxy::Action;
use tests::receiver::Answer;

use crate::exports_world::{batch, export_through, number, proxy, run, s3, stored};
use crate::world::World;

/// A permanent integration that writes into a customer's bucket through a role.
fn through_role(id: &str, customer: &Customer) -> Value {
    json!({
        "id": id, "integration_type": "permanent",
        "s3_parameters": {
            "role_arn": customer.role_arn("exports"), "aws_region": "us-east-1",
            "bucket": customer.bucket, "key_prefix": "from/stream",
        },
    })
}

/// The trust policy that a response asks for.
fn trust_of(answer: &Value) -> Value {
    let text = |field: &str| answer["role_trust"][field].as_str().unwrap().to_owned();
    Customer::trust(&text("principal"), Some(&text("external_id")))
}

/// The plan of a file in a customer's bucket.
fn plan(customer: &Customer, key: String) -> Plan {
    let place = Millis(0).first_id();
    Plan {
        repeats_from: place,
        from: place,
        until: place,
        bucket: customer.bucket.clone(),
        region: "us-east-1".to_owned(),
        key,
        filter: None,
        size_bytes: 1,
        lines: 1,
        crc64: String::new(),
    }
}

async fn publish(world: &World, n: usize) {
    let event = json!({"name": "order.created", "payload": {"n": n}});
    world.publish(&[event]).await;
    world.drain_ingest().await;
}

async fn numbers(customer: &Customer) -> Vec<u64> {
    let files = customer.files().await;
    files
        .iter()
        .flat_map(|(_, text)| text.lines().map(number))
        .collect()
}

/// An error as STS answers it.
fn sts_error(status: u16, code: &str) -> Action {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
    );
    Action::Answer(Answer::status(status).body(body))
}

/// The reason of the newest entry of an integration's log, which has to be a failed export.
async fn failure(world: &World, id: &str) -> String {
    let log = world.call("GET", &format!("/{id}/log"), "").await;
    let entry = &log.body["entries"][0];
    assert_eq!(entry["action"], "export_failed", "{log:?}");
    entry["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn files_are_written_through_a_role_once_it_trusts_the_service() {
    let (world, customer) = (World::start().await, Customer::new().await);
    let answer = world.register(through_role("sap-1", &customer)).await.body;
    let parameters = &answer["s3_parameters"];
    assert_eq!(parameters["role_arn"], customer.role_arn("exports"));
    assert!(parameters.get("aws_access_key_id").is_none(), "{answer}");
    assert!(
        parameters.get("aws_secret_access_key").is_none(),
        "{answer}"
    );
    // What has to be in the trust policy is in the response, so the role can only be made after it.
    publish(&world, 1).await;
    world.export_tick().await;
    let reason = failure(&world, "sap-1").await;
    assert!(reason.contains("the role cannot be assumed"), "{reason}");
    assert_eq!(
        stored(&world, "sap-1").await.export_mut().unwrap().plan,
        None
    );
    customer.create_role("exports", &trust_of(&answer)).await;
    publish(&world, 2).await;
    world.export_tick().await;
    assert_eq!(numbers(&customer).await, [1, 2]);
    let (key, _) = &customer.files().await[0];
    assert!(
        key.starts_with(&format!("from/stream/{}/", world.tenant)),
        "{key}"
    );
}

#[tokio::test]
async fn a_session_may_put_objects_under_the_prefix_and_nothing_else() {
    let (world, customer) = (World::start().await, Customer::new().await);
    let answer = world.register(through_role("sap-1", &customer)).await.body;
    customer.create_role("exports", &trust_of(&answer)).await;
    let plan = plan(&customer, format!("from/stream/{}/file", world.tenant));
    let role_arn = customer.role_arn("exports");
    let external_id = answer["role_trust"]["external_id"].as_str().unwrap();
    let assumed = world
        .export
        .roles
        .assume(&role_arn, external_id, "sap-1", &plan)
        .await;
    let Granted::Credentials(credentials) = assumed.unwrap() else {
        panic!("the role trusts us")
    };
    let (session, _) = s3_as(credentials).await;
    let (bucket, folder) = (&customer.bucket, format!("from/stream/{}", world.tenant));
    let put = async |bucket: &str, key: &str| {
        let put = session.put_object().bucket(bucket).key(key);
        let put = put.body(ByteStream::from_static(b"x")).send().await;
        put.map(drop)
            .map_err(|error| error.code().unwrap_or_default().to_owned())
    };
    assert_eq!(put(bucket, &plan.key).await, Ok(()));
    let denied = Err("AccessDenied".to_owned());
    for key in ["elsewhere", "from/stream/x", "from/stream/acme-2/x"] {
        assert_eq!(put(bucket, key).await, denied, "{key}");
    }
    let other = Customer::new().await;
    assert_eq!(put(&other.bucket, &plan.key).await, denied);
    let second = format!("second-{}", customer.bucket);
    let create = customer.s3.create_bucket().bucket(&second);
    create.send().await.unwrap();
    assert_eq!(put(&second, &plan.key).await, denied);
    let key = format!("{folder}/x");
    let got = session.get_object().bucket(bucket).key(&key).send().await;
    assert_eq!(got.unwrap_err().code(), Some("AccessDenied"));
    let deleted = session.delete_object().bucket(bucket).key(&plan.key);
    assert_eq!(
        deleted.send().await.unwrap_err().code(),
        Some("AccessDenied")
    );
    let listed = session.list_objects_v2().bucket(bucket).send().await;
    assert_eq!(listed.unwrap_err().code(), Some("AccessDenied"));
}

#[tokio::test]
async fn a_role_that_asks_for_no_external_id_is_not_used_until_it_does() {
    let (world, customer) = (World::start().await, Customer::new().await);
    let answer = world.register(through_role("sap-1", &customer)).await.body;
    let principal = answer["role_trust"]["principal"].as_str().unwrap();
    let open = Customer::trust(principal, None);
    customer.create_role("exports", &open).await;
    publish(&world, 1).await;
    world.export_tick().await;
    let reason = failure(&world, "sap-1").await;
    assert!(reason.contains("without the external_id"), "{reason}");
    assert_eq!(customer.files().await, []);
    customer.trust_anew("exports", &trust_of(&answer)).await;
    world.export_tick().await;
    assert_eq!(numbers(&customer).await, [1]);
    // That it has asked once says nothing about other tenants: when it is opened again, none of them gets in.
    customer.trust_anew("exports", &open).await;
    let plan = plan(&customer, "from/stream/other/file".to_owned());
    let others = world
        .export
        .roles
        .assume(&customer.role_arn("exports"), "another", "sap-1", &plan)
        .await;
    let Granted::Refused(refusal) = others.unwrap() else {
        panic!("another tenant's external id is refused")
    };
    assert!(
        refusal.reason.contains("without the external_id"),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn no_tenant_gets_files_through_the_role_of_another_one() {
    let (victim, thief) = (World::start().await, World::start().await);
    let customer = Customer::new().await;
    let answer = victim.register(through_role("sap-1", &customer)).await.body;
    customer.create_role("exports", &trust_of(&answer)).await;
    let stolen = thief.register(through_role("sap-1", &customer)).await.body;
    assert_ne!(
        stolen["role_trust"]["external_id"],
        answer["role_trust"]["external_id"]
    );
    publish(&thief, 666).await;
    thief.export_tick().await;
    let reason = failure(&thief, "sap-1").await;
    assert!(reason.contains("the role cannot be assumed"), "{reason}");
    assert_eq!(customer.files().await, []);
    // An external id is nothing that a caller can give.
    for (field, parent) in [("external_id", "s3_parameters"), ("role_trust", "")] {
        let mut body = through_role("sap-2", &customer);
        let mine = match parent {
            "" => &mut body,
            parent => &mut body[parent],
        };
        mine[field] = answer["role_trust"]["external_id"].clone();
        let refused = thief.call("POST", "/", body).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains(field), "{refused:?}");
    }
    publish(&victim, 1).await;
    victim.export_tick().await;
    assert_eq!(numbers(&customer).await, [1]);
}

#[tokio::test]
async fn a_tenants_external_id_stays_and_key_and_role_take_each_others_place() {
    let (world, customer) = (World::start().await, Customer::new().await);
    let external_id = async |id: &str| {
        let answer = world.call("GET", &format!("/{id}"), "").await.body;
        answer["role_trust"]["external_id"].clone()
    };
    world.register(through_role("sap-1", &customer)).await;
    let first = external_id("sap-1").await;
    assert!(first.is_string());
    world.call("DELETE", "/sap-1", "").await;
    world.register(through_role("sap-1", &customer)).await;
    assert_eq!(external_id("sap-1").await, first);

    let bucket = world.bucket().await;
    world.register(s3("sap-2", &bucket)).await;
    assert_eq!(external_id("sap-2").await, Value::Null);
    world.call("POST", "/sap-2/_stop", "").await;
    let update = async |parameters: Value| {
        let body = json!({ "s3_parameters": parameters });
        world.call("PATCH", "/sap-2", body).await
    };
    let role = json!(customer.role_arn("exports"));
    let key = s3("sap-2", &bucket)["s3_parameters"].clone();
    let both = update(json!({"role_arn": role, "aws_access_key_id": "AKIA"})).await;
    assert_eq!(both.status, 400);
    assert!(both.text.contains("s3_parameters.role_arn"), "{both:?}");
    let changed = update(json!({"role_arn": role})).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(external_id("sap-2").await, first);
    let parameters = &changed.body["s3_parameters"];
    assert_eq!(parameters["key_prefix"], "newstore_integration_002");
    assert!(parameters.get("aws_access_key_id").is_none());
    let again = update(parameters.clone()).await;
    assert_eq!(
        again.body["s3_parameters"], *parameters,
        "sent back as it came"
    );
    // Nothing of the key that it had is left, and a mask stands for nothing.
    let mut masked = key.clone();
    masked["aws_secret_access_key"] = json!("****************************abcd");
    let refused = update(masked).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("is masked"), "{refused:?}");
    let half = update(json!({"aws_access_key_id": "AKIA"})).await;
    assert_eq!(half.status, 400);
    assert!(half.text.contains("aws_secret_access_key"), "{half:?}");
    assert_eq!(update(key).await.status, 200);
    let stored = stored(&world, "sap-2").await;
    assert_eq!(external_id("sap-2").await, Value::Null);
    let Target::S3 {
        bucket: parameters, ..
    } = &stored.target
    else {
        panic!("it is an S3 integration");
    };
    let text = serde_json::to_string(parameters).unwrap();
    assert!(!text.contains("role_arn"), "{text}");
    publish(&world, 1).await;
    world.call("POST", "/sap-2/_start", "").await;
    world.export_tick().await;
    assert_eq!(world.files(&bucket).await.len(), 1);
}

#[tokio::test]
async fn a_role_is_one_of_another_account_and_its_prefix_has_plain_characters() {
    let (world, customer) = (World::start().await, Customer::new().await);
    let long = format!("arn:aws:iam::123456789012:role/{}", "r".repeat(65));
    for (field, value, part) in [
        (
            "role_arn",
            "arn:aws:iam::000000000000:role/mine",
            "own AWS account",
        ),
        (
            "role_arn",
            "arn:aws:iam::123456789012:user/u",
            "ARN of an IAM role",
        ),
        (
            "role_arn",
            "arn:aws:iam::12345678901:role/r",
            "ARN of an IAM role",
        ),
        (
            "role_arn",
            "arn:aws-cn:iam::123456789012:role/r",
            "ARN of an IAM role",
        ),
        (
            "role_arn",
            "arn:aws:sts::123456789012:assumed-role/r/s",
            "ARN of an IAM role",
        ),
        (
            "role_arn",
            "arn:aws:iam::123456789012:role/",
            "ARN of an IAM role",
        ),
        (
            "role_arn",
            "arn:aws:iam::123456789012:role/a//b",
            "ARN of an IAM role",
        ),
        (
            "role_arn",
            "arn:aws:iam::123456789012:role/a b",
            "ARN of an IAM role",
        ),
        ("role_arn", &long, "ARN of an IAM role"),
        ("aws_region", "cn-north-1", "another partition"),
        ("bucket", "point-abc-s3alias", "where role_arn is given"),
        ("key_prefix", "a*", "where role_arn is given"),
        ("key_prefix", "a/${aws:username}", "where role_arn is given"),
        ("key_prefix", "exporte/ä", "where role_arn is given"),
    ] {
        let mut body = through_role("sap-1", &customer);
        body["s3_parameters"][field] = json!(value);
        let refused = world.call("POST", "/", body).await;
        assert_eq!(refused.status, 400, "{value}");
        let named = format!("s3_parameters.{field}");
        assert!(refused.text.contains(&named), "{refused:?}");
        assert!(refused.text.contains(part), "{refused:?}");
    }
    let mut body = through_role("sap-1", &customer);
    body["s3_parameters"]["role_arn"] = json!(customer.role_arn("some/path/exports@1"));
    world.register(body).await;
}

#[tokio::test]
async fn an_sts_that_fails_is_our_error_and_plans_nothing() {
    let (world, customer, proxy) = (World::start().await, Customer::new().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let answer = world.register(through_role("sap-1", &customer)).await.body;
    customer.create_role("exports", &trust_of(&answer)).await;
    publish(&world, 1).await;
    world.pass(crate::world::SEAL * 7);
    proxy.rule(|passing| match passing.body.contains("Action=AssumeRole") {
        true => sts_error(503, "ServiceUnavailable"),
        false => Action::Forward,
    });
    let response = crate::world::run_export(&app, batch(&world, "sap-1"))
        .await
        .unwrap();
    assert_eq!(response.batch_item_failures.len(), 1);
    assert_eq!(world.actions("sap-1").await, ["integration_started"]);
    assert_eq!(
        stored(&world, "sap-1").await.export_mut().unwrap().plan,
        None
    );
    // What the customer has to mend is no failure of ours.
    proxy.rule(|passing| match passing.body.contains("Action=AssumeRole") {
        true => sts_error(403, "RegionDisabledException"),
        false => Action::Forward,
    });
    run(&app, &world, "sap-1").await;
    let reason = failure(&world, "sap-1").await;
    assert!(reason.contains("not activated STS"), "{reason}");
    proxy.rule(|_| Action::Forward);
    world.pass(crate::world::SEAL);
    run(&app, &world, "sap-1").await;
    assert_eq!(numbers(&customer).await, [1]);
}

#[tokio::test]
async fn a_file_in_doubt_is_finished_through_the_role_that_took_the_keys_place() {
    let (world, customer, proxy) = (World::start().await, Customer::new().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    // An upload with a key is not answered, under a prefix that an integration with a role could not have.
    let mut body = s3("sap-1", &customer.bucket);
    body["s3_parameters"]["key_prefix"] = json!("日本/a b");
    world.register(body).await;
    publish(&world, 1).await;
    world.pass(crate::world::SEAL * 7);
    proxy.rule(|passing| match passing.is_upload() {
        true => Action::Answer(Answer::status(500)),
        false => Action::Forward,
    });
    run(&app, &world, "sap-1").await;
    let planned = stored(&world, "sap-1")
        .await
        .export_mut()
        .unwrap()
        .plan
        .clone();
    let planned = planned.expect("the upload is in doubt");
    world.call("POST", "/sap-1/_stop", "").await;
    let changes =
        json!({"s3_parameters": {"role_arn": customer.role_arn("exports"), "key_prefix": "plain"}});
    let answer = world.call("PATCH", "/sap-1", changes).await.body;
    customer.create_role("exports", &trust_of(&answer)).await;
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    let files = customer.files().await;
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].0, planned.key);
    assert_eq!(numbers(&customer).await, [1]);
}
