// Clients of the control plane's services, over gRPC-web to where the page came from.
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ConsoleService } from "../gen/countersign/control/v1/console_service_pb";
import { InspectService } from "../gen/countersign/control/v1/inspect_service_pb";
import { ReplayService } from "../gen/countersign/control/v1/replay_service_pb";
import { ReportService } from "../gen/countersign/control/v1/report_service_pb";
import { SnapshotService } from "../gen/countersign/control/v1/snapshot_service_pb";
import { TestConfigService } from "../gen/countersign/control/v1/test_config_service_pb";
import { TrafficService } from "../gen/countersign/control/v1/traffic_service_pb";
import { TransformService } from "../gen/countersign/control/v1/transform_service_pb";

const KEY = "countersign-token";
const PROJECT = "countersign-project";

/** The token of whoever is signed in; kept until the tab is closed. */
export const session = {
  get token(): string {
    return sessionStorage.getItem(KEY) ?? "";
  },
  set token(token: string) {
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  },
  get project(): string {
    return localStorage.getItem(PROJECT) || "default";
  },
  set project(project: string) {
    localStorage.setItem(PROJECT, project);
  },
};

/** `projects/{project}`. */
export function parent(): string {
  return `projects/${session.project}`;
}

/** The name of a resource of the project. */
export function nameOf(collection: string, id: string): string {
  return `${parent()}/${collection}/${id}`;
}

/** The last part of a resource name. */
export function idOf(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

const authorize: Interceptor = (next) => (request) => {
  if (session.token) request.header.set("authorization", `Bearer ${session.token}`);
  return next(request);
};

// There is no place to call where there is no page, as in tests.
const baseUrl = typeof location === "undefined" ? "http://localhost" : location.origin;
const transport = createGrpcWebTransport({ baseUrl, interceptors: [authorize] });

export const snapshots = createClient(SnapshotService, transport);
export const traffic = createClient(TrafficService, transport);
export const transforms = createClient(TransformService, transport);
export const testConfigs = createClient(TestConfigService, transport);
export const replays = createClient(ReplayService, transport);
export const reports = createClient(ReportService, transport);
export const inspect = createClient(InspectService, transport);
export const consoleService = createClient(ConsoleService, transport);

/** All pages of a list. */
export async function all<T>(page: (pageToken: string) => Promise<{ items: T[]; next: string }>): Promise<T[]> {
  const found: T[] = [];
  let token = "";
  do {
    const { items, next } = await page(token);
    found.push(...items);
    token = next;
  } while (token && found.length < 5000);
  return found;
}

export const listSnapshots = () =>
  all(async (pageToken) => {
    const page = await snapshots.listSnapshots({ parent: parent(), pageSize: 1000, pageToken });
    return { items: page.snapshots, next: page.nextPageToken };
  });
export const listTransforms = () =>
  all(async (pageToken) => {
    const page = await transforms.listTransforms({ parent: parent(), pageSize: 1000, pageToken });
    return { items: page.transforms, next: page.nextPageToken };
  });
export const listTestConfigs = () =>
  all(async (pageToken) => {
    const page = await testConfigs.listTestConfigs({ parent: parent(), pageSize: 1000, pageToken });
    return { items: page.testConfigs, next: page.nextPageToken };
  });
export const listReplays = () =>
  all(async (pageToken) => {
    const page = await replays.listReplays({ parent: parent(), pageSize: 1000, pageToken });
    return { items: page.replays, next: page.nextPageToken };
  });
export const listResponders = () =>
  all(async (pageToken) => {
    const page = await replays.listResponders({ parent: parent(), pageSize: 1000, pageToken });
    return { items: page.responders, next: page.nextPageToken };
  });
