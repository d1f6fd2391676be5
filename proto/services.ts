/**
 * The typed descriptors of the wire's services and the message types that callers name. This file
 * and proto/convert are the only readers of the generated code; everyone else imports from here.
 */

export type {
  AssignmentMessage as WireAssignmentMessage,
  HeartbeatRequest,
  HeartbeatResponse,
  IssueCertificateRequest,
  IssueCertificateResponse,
  LeaderStatusResponse,
  ManagerStateResponse,
  ObjectResponse,
  RaftFrames,
  RaftJoinRequest,
  RaftJoinResponse,
  SessionMessage as WireSessionMessage,
  SessionRequest,
  TaskLogRecord,
  TaskLogsRequest,
  TaskLogsResponse,
  UpdateTaskStatusRequest,
} from './gen/tsswarm/v1/cluster_pb.js';
export {
  CertificateAuthority,
  Control,
  Dispatcher,
  Host,
  Raft,
} from './gen/tsswarm/v1/cluster_pb.js';
