/** A client of DISEQ nodes and a verifier of what they say; "@diseq/client/verify" has the verifier alone. */

export {
  Client, ConnectionError, NodeError, type Call, type ClientOptions, type MessageStatus, type Status, type SubmitResult, type Validators,
} from "./client.js";
export { Follower } from "./follow.js";
export * from "./verify.js";
