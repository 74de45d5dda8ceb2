// A service's life through Google's own library: deployment.js grpc|rest. What it prints is ../deployment.txt.
'use strict';

const {v2, protos} = require('@google-cloud/run');

const {ServicesClient, RevisionsClient} = v2;
const {State} = protos.google.cloud.run.v2.Condition;

const rest = process.argv[2] === 'rest';
const options = rest ? {fallback: true} : {};
const services = new ServicesClient(options);
const revisions = new RevisionsClient(options);
const parent = `projects/${process.env.GOOGLE_CLOUD_PROJECT}/locations/us-central1`;
const name = `${parent}/services/tide`;

const short = resource => resource.split('/').pop();
const image = 'us-docker.pkg.dev/cloudrun/container/hello';
const template = more => ({
  containers: [{image, ...more}],
  maxInstanceRequestConcurrency: 10,
  timeout: {seconds: 30},
});
const share = (revision, percent, tag) => ({
  type: 'TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION',
  revision,
  percent,
  tag,
});

/// What comes of a long-running call.
async function done(call) {
  const [operation] = await call;
  return (await operation.promise())[0];
}

/// An error's code is gRPC's over both transports.
async function refused(call, code) {
  try {
    await call();
  } catch (error) {
    if (error.code === code) return;
    throw error;
  }
  throw new Error('it was not refused');
}

async function main() {
  const create = () => done(services.createService({parent, serviceId: 'tide', service: {template: template()}}));
  const count = async () => (await revisions.listRevisions({parent: name}))[0].length;
  let made = await create();
  const limits = `concurrency ${made.template.maxInstanceRequestConcurrency}, ${made.template.timeout.seconds} s`;
  // What an operation ends with holds enums as numbers.
  const state = State[made.terminalCondition.state].replace('CONDITION_', '');
  console.log(`created: ${short(made.name)}, ${limits}, ${state}, ${await count()} revision`);
  await refused(create, 6);
  console.log('again: already exists');

  const first = short(made.latestReadyRevision);
  // What an operation ends with is no request over REST, so each change is told whole.
  const update = traffic => {
    const service = {name, etag: made.etag, template: template({env: [{name: 'A', value: '1'}]}), traffic};
    return done(services.updateService({service}));
  };
  made = await update();
  const second = short(made.latestReadyRevision);
  console.log(`updated: ${await count()} revisions`);

  made = await update([share(first, 75), share(second, 25, 'canary')]);
  const [old, canary] = [first, second].map(one => made.trafficStatuses.find(status => status.revision === one));
  console.log(`split: ${old.percent} to the first, ${canary.percent} to the second as ${canary.tag}`);
  await refused(() => update([share(first, 60)]), 3);
  console.log('without a whole: refused');

  const [listed] = await services.listServices({parent});
  console.log(`listed: ${listed.map(service => short(service.name)).join(', ')}`);
  console.log(`deleted: ${short((await done(services.deleteService({name}))).name)}`);
  await refused(() => services.getService({name}), 5);
  console.log('asked again: not found');
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
