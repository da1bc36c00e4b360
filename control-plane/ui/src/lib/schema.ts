// What a template can be made of, asked once.
import type { DescribeTransformsResponse, ElementKind } from "../gen/countersign/control/v1/console_service_pb";
import { consoleService } from "./rpc";
import type { Element } from "./template";

let asked: Promise<Schema> | undefined;

export class Schema {
  readonly steps: ElementKind[];
  readonly extractors: ElementKind[];
  /** The criteria that take a key. */
  readonly keyed: Set<string>;

  constructor(readonly all: DescribeTransformsResponse) {
    this.steps = all.steps;
    this.extractors = all.extractors;
    this.keyed = new Set(all.criteria.filter((one) => one.keyed).map((one) => one.jsonName));
  }

  step(type: string): ElementKind | undefined {
    return find(this.steps, type);
  }

  extractor(type: string): ElementKind | undefined {
    return find(this.extractors, type);
  }
}

function find(kinds: ElementKind[], type: string): ElementKind | undefined {
  const wanted = type.toLowerCase();
  return kinds.find((kind) => kind.name === wanted || kind.aliases.includes(wanted));
}

export function schema(): Promise<Schema> {
  asked ??= consoleService.describeTransforms({}).then(
    (all) => new Schema(all),
    (thrown: unknown) => {
      asked = undefined;
      throw thrown;
    },
  );
  return asked;
}

/** The setting of an element, whose names are compared without case. */
export function setting(element: Element, name: string): string {
  const key = Object.keys(element.config ?? {}).find((one) => one.toLowerCase() === name.toLowerCase());
  return key === undefined ? "" : String(element.config?.[key] ?? "");
}

/** Changes a setting, keeping its spelling; an empty one is taken out. */
export function withSetting(element: Element, name: string, value: string): Element {
  const config = { ...element.config };
  const key = Object.keys(config).find((one) => one.toLowerCase() === name.toLowerCase()) ?? name;
  if (value === "") delete config[key];
  else config[key] = value;
  if (Object.keys(config).length > 0) return { ...element, config };
  const { config: _, ...rest } = element;
  return rest;
}
