// Types for the scripts here: what they keep, what the templates hold, and the parts of htmx and hx-ws that they use.

interface Unsent {
  to: string;
  body: string;
  nonce: string;
  reply_to?: string;
  /** Milliseconds, as Date.now() gives them. */
  at: number;
}

/** A pane that was open before, and how far each of its parts was scrolled. */
interface Kept {
  pane: HTMLElement;
  tops: number[];
}

interface Selected extends HTMLElementTagNameMap {
  "#body": HTMLTextAreaElement;
  "#composer": HTMLFormElement;
  "#draft": HTMLFormElement;
  "#composer [name=to]": HTMLInputElement;
  "#composer [name=reply_to]": HTMLInputElement;
  "#change": HTMLFormElement;
  "#delivered": HTMLFormElement;
  "#removal": HTMLDialogElement;
  "#removal button[value]": HTMLButtonElement;
  "#cursor": HTMLInputElement;
  "#emoji iframe": HTMLIFrameElement;
  "#first": HTMLInputElement;
  "#last": HTMLInputElement;
  "#total": HTMLInputElement;
  "#pending-message": HTMLTemplateElement;
  "template#older": HTMLTemplateElement;
  "template#newer": HTMLTemplateElement;
  "#view [name=visible]": HTMLInputElement;
  "#read [name=version]": HTMLInputElement;
  "#read [name=seq]": HTMLInputElement;
  "[name=version], [name=seq]": HTMLInputElement;
  "#read": HTMLFormElement;
  "#view, #read": HTMLFormElement;
}

type Maybe = Element | null | undefined;
type Nonces = Set<string | undefined>;
type Connection = { socket: WebSocket };
type Reported = "#view [name=visible]" | "#read [name=version]" | "#read [name=seq]";
type Found<S> = S extends keyof Selected ? Selected[S] : HTMLElement;
type Find = <S extends string>(selector: S, within?: ParentNode) => Found<S> | null;
type FindAll = <S extends string>(selector: S, within?: ParentNode) => Found<S>[];

/** Pages have no elements but those of HTML and SVG, and all of these have a dataset. */
interface Element {
  readonly dataset: DOMStringMap;
}

interface HtmxEvents {
  "htmx:before:response": CustomEvent<{ ctx: { response: { status: number } } }>;
  "htmx:before:swap": CustomEvent<{
    ctx: { sourceElement?: Element };
    tasks: { fragment: DocumentFragment; target: Element | string }[];
  }>;
  "htmx:after:swap": CustomEvent<{ ctx: { sourceElement?: Element } }>;
  "htmx:ws:after:connection": CustomEvent<{ connection: Connection }>;
  "htmx:ws:before:message:outgoing": CustomEvent<{ message: { values: Record<string, string> } }>;
  "htmx:ws:close": CustomEvent<{ code: number | null }>;
}

interface DocumentEventMap extends HtmxEvents {}
interface HTMLElementEventMap extends HtmxEvents {}

declare const htmx: {
  process(element: Element): void;
  swap(context: {
    text: string;
    sourceElement: Element;
    target: Element;
    swap: string;
    select?: string;
  }): Promise<void>;
  trigger(on: Element, event: string): boolean;
};
